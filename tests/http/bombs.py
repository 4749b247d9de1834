"""Small bodies that ask for much memory, and floods: bodies that ask for much time."""

import functools
import gzip
import random
import struct
import zlib

from tests.http import raw
from tests.http.request import MAX_PIXELS, Hostile, photos

FLOOD_BYTES = 2_500_000


def _jpeg():
    return photos()["JPEG"][0]


def _with_chunks(found, late=False):
    """Return a photo as PNG, (kind, data) chunks ahead of its pixels or behind them."""
    whole = raw.chunks(photos()["PNG"][0])
    at = len(whole) - 1 if late else 1
    return raw.join([*whole[:at], *found, *whole[at:]])


def _zeros(count):
    packer = zlib.compressobj(9)
    return b"".join(packer.compress(bytes(1_000_000)) for _ in range(count // 1_000_000)) + packer.flush()


def _huge_jpeg():
    pieces = raw.segments(_jpeg())
    at = next(index for index, piece in enumerate(pieces) if piece[1] == 0xC0)
    pieces[at] = pieces[at][:5] + struct.pack(">HH", 65500, 65500) + pieces[at][9:]
    return b"".join(pieces)


def _huge_lossy_webp():
    data = bytearray(photos()["WEBP"][0])
    at = data.index(b"\x9d\x01\x2a") + 3
    data[at : at + 4] = struct.pack("<HH", 16383, 16383)
    return bytes(data)


def _text_bomb(kind, late=False):
    head = b"key\0\1\0\0\0" if kind == b"iTXt" else b"key\0\0"
    return _with_chunks([(kind, head + _zeros(50_000_000))], late)


def _huge_png():
    header = struct.pack(">IIBBBBB", 2**31 - 1, 2**31 - 1, 8, 2, 0, 0, 0)
    return raw.join([(b"IHDR", header), *raw.chunks(photos()["PNG"][0])[1:]])


def _huge_canvas():
    frame = bytes(6) + (95).to_bytes(3, "little") + (63).to_bytes(3, "little") + (40).to_bytes(3, "little") + b"\0"
    (kind, pixels), *_ = raw.riff_chunks(photos()["WEBP"][0])
    inner = kind + struct.pack("<I", len(pixels)) + pixels + b"\0" * (len(pixels) % 2)
    return raw.riff([raw.canvas(16383, 16383, 0x02), (b"ANIM", bytes(6)), (b"ANMF", frame + inner)])


def _framed(*pieces):
    """Return a JPEG of 8 x 8 whose one scan has no tables, then pieces, and no end."""
    frame, scan = raw.segment(0xC0, b"\x08\0\x08\0\x08\x01\0\x11\0"), raw.segment(0xDA, b"\x01\0\0\0\0\x3f\0")
    return b"".join([_jpeg()[:2], frame, scan, *pieces])


def _frames_of_jpeg():
    return _framed(*[raw.segment(0xC0, b"\x08\0\x08\0\x08\xff" + bytes(65_000))] * (FLOOD_BYTES // 65_000))


def _hidden_scans():
    """Return a JPEG with thousands of scans where Pillow reads other segments, the last one broken off."""
    scans = raw.segment(0xDA, b"\xff" + bytes(510) + b"\0\xff\0") * 120
    hiding = b"\xff\xf0\0\x06\xff\xe1" + struct.pack(">H", len(scans) + 2)
    frame = raw.segment(0xC0, b"\x08\0\x08\0\x08\x01\0\x11\0")
    return _jpeg()[:2] + frame + (hiding + scans) * (FLOOD_BYTES // len(scans)) + hiding


def _exif_texts():
    text = b"Raw profile type exif\0\0" + zlib.compress(bytes(1 << 18), 9)
    return _with_chunks([(b"zTXt", text)] * (FLOOD_BYTES // len(text)))


BOMBS = {  # the pixels of the last ones are sound
    "PNG of 90 megapixels": ("image/png", lambda: raw.blank_png(9000, 10000), False),
    "PNG of 30000 x 30000": ("image/png", lambda: raw.blank_png(30000, 30000), False),
    "PNG one pixel over the limit": ("image/png", lambda: raw.blank_png(MAX_PIXELS + 1, 1), False),
    "PNG header of 2**31 - 1 squared": ("image/png", _huge_png, False),
    "WebP of 16383 x 16383": ("image/webp", lambda: raw.blank_webp(16383, 16383), False),
    "WebP header of 16383 x 16383": ("image/webp", _huge_lossy_webp, False),
    "WebP canvas of 16383 x 16383": ("image/webp", _huge_canvas, False),
    "JPEG header of 65500 x 65500": ("image/jpeg", _huge_jpeg, False),
    "PNG zTXt of 50 MB": ("image/png", lambda: _text_bomb(b"zTXt"), True),
    "PNG zTXt of 50 MB behind the pixels": ("image/png", lambda: _text_bomb(b"zTXt", late=True), True),
    "PNG iTXt of 50 MB": ("image/png", lambda: _text_bomb(b"iTXt"), True),
    "PNG of EXIF as text": ("image/png", _exif_texts, True),
    "PNG iCCP of 50 MB": ("image/png", lambda: _text_bomb(b"iCCP"), True),
}


def _repeated(piece):
    return piece * (FLOOD_BYTES // len(piece))


def _in_jpeg(piece):
    return _jpeg()[:2] + _repeated(piece) + _jpeg()[2:]


def _scans(count):
    data = photos()["JPEG"][1]
    start = data.rindex(b"\xff\xda")
    return data[:-2] + data[start:-2] * count + data[-2:]


def _directory(entries=5000):
    """Return a JPEG whose EXIF has as many entries as fit, all of them text that lies elsewhere."""
    fields = b"".join(struct.pack("<HHII", 0x9000 + index % 2000, 2, 60_000, 8) for index in range(entries))
    block = b"II*\0" + struct.pack("<IH", 8, entries) + fields + bytes(4)
    return raw.with_segment(_jpeg(), 0xE1, b"Exif\0\0" + block)


def _frames():
    frame = bytes(12) + (40).to_bytes(3, "little") + b"\0" + raw.blank_webp(1, 1)[12:]
    return raw.riff([raw.canvas(96, 64, 0x02), (b"ANIM", bytes(6)), *[(b"ANMF", frame)] * (FLOOD_BYTES // 50)])


def _pieces_of_idat():
    found = []
    for kind, data in raw.chunks(photos()["PNG"][0]):
        found += [(kind, data[at : at + 1]) for at in range(len(data))] if kind == b"IDAT" else [(kind, data)]
    return raw.join(found)


IMAGE_FLOODS = {  # sound, for those who have the time
    "JPEG of fill bytes": lambda: _in_jpeg(b"\xff"),
    "JPEG of fill bytes before its end": lambda: _jpeg()[:-2] + _repeated(b"\xff") + b"\xff\xd9",
    "JPEG of empty comments": lambda: _in_jpeg(raw.segment(0xFE)),
    "JPEG of empty APP1": lambda: _in_jpeg(raw.segment(0xE1)),
    "JPEG of EXIF pieces": lambda: _in_jpeg(raw.segment(0xE1, b"Exif\0\0" + bytes(94))),
    "JPEG of ICC pieces": lambda: _in_jpeg(raw.segment(0xE2, b"ICC_PROFILE\0\x01\xff")),
    "JPEG of Photoshop blocks": lambda: _in_jpeg(
        raw.segment(0xED, b"Photoshop 3.0\0" + b"8BIM\4\4\0\0\0\0\0\0" * 5000)
    ),
    "JPEG of empty tables": lambda: _in_jpeg(raw.segment(0xDB)),
    "JPEG of restart markers": lambda: _jpeg()[:-2] + _repeated(b"\xff\xd0") + b"\xff\xd9",
    "JPEG of 500 scans": lambda: _scans(500),
    "JPEG of EXIF entries": _directory,
    "PNG of empty chunks": lambda: _with_chunks([(b"prVt", b"")] * (FLOOD_BYTES // 12)),
    "PNG of empty chunks behind the pixels": lambda: _with_chunks([(b"prVt", b"")] * (FLOOD_BYTES // 12), late=True),
    "PNG of empty IDAT": lambda: _with_chunks([(b"IDAT", b"")] * (FLOOD_BYTES // 12)),
    "PNG of one-byte IDAT": _pieces_of_idat,
    "PNG of text": lambda: _with_chunks([(b"tEXt", b"a\0b")] * (FLOOD_BYTES // 15)),
    "WebP of empty chunks": lambda: raw.riff(
        [raw.canvas(96, 64), *raw.riff_chunks(photos()["WEBP"][0]), *[(b"junk", b"")] * (FLOOD_BYTES // 8)]
    ),
    "WebP of frames": _frames,
}
BODY_FLOODS = {
    "JPEG of fill bytes only": ("image/jpeg", lambda: b"\xff\xd8" + _repeated(b"\xff")),
    "JPEG of frames": ("image/jpeg", _frames_of_jpeg),
    "JPEG of hidden scans": ("image/jpeg", _hidden_scans),
    "random bytes": ("image/png", lambda: random.Random(0).randbytes(FLOOD_BYTES)),
    "JSON of spaces": ("application/json", lambda: _repeated(b" ")),
    "JSON of keys": ("application/json", lambda: b"{%s}" % b",".join(b'"%d":0' % index for index in range(200_000))),
    "JSON of backslashes": ("application/json", lambda: b'{"image":"%s"}' % _repeated(rb"\u00e9")),
    "multipart of line ends": ("multipart/form-data; boundary=frontier", lambda: _repeated(b"\r\n")),
    "multipart of almost boundaries": ("multipart/form-data; boundary=frontier", lambda: _repeated(b"\r\n--frontie")),
    "multipart of one endless header": (
        "multipart/form-data; boundary=frontier",
        lambda: b"--frontier\r\nX: " + _repeated(b"x"),
    ),
}


@functools.cache
def bomb(name):
    """Return a bomb by its name."""
    content_type, build, harmless = BOMBS[name]
    return Hostile(f"bomb: {name}", build(), content_type, harmless=harmless)


@functools.cache
def flood(name):
    """Return a flood by its name."""
    if name == "gzip of 300 MB":
        body = gzip.compress(bytes(300_000_000), mtime=0)
        return Hostile(f"flood: {name}", body, "image/png", headers=(("Content-Encoding", "gzip"),))
    if name in IMAGE_FLOODS:
        return Hostile(f"flood: {name}", IMAGE_FLOODS[name](), "application/octet-stream", harmless=True)
    content_type, build = BODY_FLOODS[name]
    return Hostile(f"flood: {name}", build(), content_type)


FLOODS = (*IMAGE_FLOODS, *BODY_FLOODS, "gzip of 300 MB")
