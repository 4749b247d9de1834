"""Damage to encoded images: each function takes a random generator and an image and returns other bytes."""

import struct
import zlib

from tests.http import raw
from tests.http.request import photo, photos

SIZES = (0, 1, 2, 7, 63, 64, 95, 96, 97, 128, 1000, 2000, 9000, 16383, 65535)


def _run(rng, data):
    """Return the ends of a random run of at most 200 bytes."""
    start = rng.randrange(len(data))
    return start, start + rng.randint(1, 200)


def _truncated(rng, data):
    return data[: rng.randrange(1, len(data))]


def _shortened(rng, data):
    return data[: max(1, len(data) - rng.randint(1, 20))]


def _flipped(rng, data, within=None):
    damaged = bytearray(data)
    for _ in range(rng.randint(1, 50)):
        damaged[rng.randrange(within or len(data))] ^= 1 << rng.randrange(8)
    return bytes(damaged)


def _one_flip(rng, data):
    damaged = bytearray(data)
    damaged[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(damaged)


def _overwritten(rng, data):
    start, end = _run(rng, data)
    return data[:start] + rng.randbytes(len(data[start:end])) + data[end:]


def _deleted(rng, data):
    start, end = _run(rng, data)
    return data[:start] + data[end:]


def _inserted(rng, data):
    start, end = _run(rng, data)
    return data[:start] + rng.randbytes(end - start) + data[start:]


def _duplicated(rng, data):
    start, end = _run(rng, data)
    return data[:end] + data[start:]


def _zeroed_tail(rng, data):
    keep = rng.randrange(1, len(data))
    return data[:keep] + rng.choice((b"\0", b"\xff")) * (len(data) - keep)


def _spliced(rng, data):
    other = photo(rng)
    return data[: rng.choice((2, 4, 8, 12, 16, 33, 100))] + other[rng.choice((0, 2, 8, 12, 33, 100)) :]


def _late(rng, data):
    return rng.randbytes(rng.randint(1, 30)) + data


def _doubled(rng, data):
    return data + rng.choice((data, photo(rng), rng.randbytes(1000)))


def _with_exif(rng, data):
    """Return a JPEG, PNG or WebP whose EXIF is noise, points at itself or claims a great size."""
    head = rng.choice((b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08", b"II*\0\xff\xff\xff\xff", b""))
    entry = struct.pack("<HHHIII", 1, rng.choice((274, 282, 34665)), rng.randrange(14), rng.getrandbits(32), 8, 8)
    block = head + rng.choice((entry, rng.randbytes(rng.randrange(200)), raw.exif(rng.randrange(65536))[8:]))
    if data.startswith(raw.PNG):
        header, *rest = raw.chunks(data)
        return raw.join([header, (b"eXIf", block), *rest])
    if data.startswith(b"RIFF"):
        pixels = [piece for piece in raw.riff_chunks(data) if piece[0] in {b"ALPH", b"VP8 ", b"VP8L"}]
        return raw.riff([raw.canvas(96, 64, 0x08), *pixels, (b"EXIF", block)])
    return raw.with_segment(data, 0xE1, b"Exif\0\0" + block)


def _png_header(rng, data):
    """Return the PNG with one to six fields of its header changed and the checksum right again."""
    (kind, header), *rest = raw.chunks(data)
    fields = list(struct.unpack(">IIBBBBB", header))
    choices = [(*SIZES, 2**31 - 1, 2**32 - 1)] * 2 + [(1, 2, 3, 4, 8, 16, 255), (0, 2, 3, 4, 5, 6)] + [(0, 1, 2)] * 3
    for at in rng.sample(range(7), rng.randint(1, 6)):
        fields[at] = rng.choice(choices[at])
    return raw.join([(kind, struct.pack(">IIBBBBB", *fields)), *rest])


def _png_sizes(rng, data):
    """Return the PNG with one chunk cut or extended, its length and checksum right again."""
    found = raw.chunks(data)
    at = rng.randrange(len(found))
    kind, content = found[at]
    found[at] = kind, rng.choice((content[: rng.randint(0, len(content))], content + rng.randbytes(rng.randint(1, 99))))
    return raw.join(found)


def _png_lengths(rng, data):
    """Return the PNG with one chunk that lies about its length; the checksum fits the lie in half of the cases."""
    found = raw.chunks(data)
    at = rng.randrange(len(found))
    before, after = raw.join(found[:at]), raw.join(found[at:])[len(raw.PNG) :]
    length = rng.choice((0, 1, 3, rng.randrange(100), len(data), 2**31 - 1, 2**31, 2**32 - 1))
    lying = struct.pack(">I", length) + after[4:]
    if rng.random() < 0.5 and length + 12 <= len(lying):
        lying = lying[: 8 + length] + struct.pack(">I", zlib.crc32(lying[4 : 8 + length])) + lying[12 + length :]
    return before + lying


def _png_order(rng, data):
    found = raw.chunks(data)
    changed = [rng.sample(found, len(found)), found + found, found]
    del found[rng.randrange(len(found))]
    return raw.join(rng.choice(changed))


def _png_names(rng, data):
    found = raw.chunks(data)
    names = (b"PLTE", b"tRNS", b"IDAT", b"IEND", b"iCCP", b"acTL", b"fcTL", b"fdAT", b"cHRM", b"pHYs", b"eXIf", b"ABCD")
    at = rng.randrange(len(found))
    found[at] = rng.choice((*names, rng.randbytes(4))), found[at][1]
    return raw.join(found)


def _png_extra(rng, data):
    """Return the PNG with one to five chunks of noise under names that mean something."""
    found = raw.chunks(data)
    names = (b"PLTE", b"tRNS", b"iCCP", b"acTL", b"fcTL", b"fdAT", b"cHRM", b"gAMA", b"pHYs", b"sRGB", b"zTXt", b"iTXt")
    for _ in range(rng.randint(1, 5)):
        content = rng.randbytes(rng.choice((0, 1, 2, 4, 8, 26, 32, 200)))
        found.insert(rng.randrange(1, len(found)), (rng.choice(names), content))
    return raw.join(found)


def _png_palette(rng, data):
    """Return the PNG with its palette and transparency, where it has them, lost, cut short or too long."""
    found = []
    for kind, content in raw.chunks(data):
        cut = content[: rng.randint(0, len(content))]
        changed = [[], [(kind, content)], [(kind, cut)], [(kind, content + bytes(9))]]
        found += rng.choice(changed) if kind in {b"PLTE", b"tRNS"} else [(kind, content)]
    return raw.join(found)


def _png_pixels(rng, data):
    """Return the PNG with pixels of noise, well packed: filters that do not exist, too few or too many rows."""
    (kind, header), *_ = raw.chunks(data)
    packed = zlib.compress(rng.randbytes(rng.choice((0, 100, 10_000, 40_000))), 1)
    return raw.join([(kind, header), (b"PLTE", bytes(768)), (b"IDAT", packed), (b"IEND", b"")])


def _jpeg_frame(rng, data):
    """Return the JPEG with other dimensions, precision, components or sampling in its frame header."""
    pieces = raw.segments(data)
    at = next(index for index, piece in enumerate(pieces) if piece[1] in {0xC0, 0xC1, 0xC2})
    frame = bytearray(pieces[at])
    for _ in range(rng.randint(1, 2)):
        field = rng.choice((1, 4, 5, 5, 7, 7, 9, rng.randrange(10, len(frame))))
        if field in {5, 7}:
            struct.pack_into(">H", frame, field, rng.choice(SIZES))
        else:
            frame[field] = rng.choice((0, 1, 2, 3, 4, 8, 12, 0x11, 0x22, 0x44, 0xC3, 0xC9, 255))
    pieces[at] = bytes(frame)
    return b"".join(pieces)


def _jpeg_segments(rng, data):
    pieces = raw.segments(data)
    for _ in range(rng.randint(1, 6)):
        extra = raw.segment(rng.randrange(0xC0, 0xFF), rng.randbytes(rng.randrange(300)))
        if rng.random() < 0.3:
            extra = extra[:2] + struct.pack(">H", rng.choice((0, 1, 2, 65535))) + extra[4:]
        pieces.insert(rng.randrange(1, len(pieces)), extra)
    return b"".join(pieces)


def _jpeg_tables(rng, data):
    pieces = raw.segments(data)
    at = rng.choice([index for index, piece in enumerate(pieces) if piece[1] in {0xC4, 0xDB, 0xDD, 0xEE}])
    pieces[at] = pieces[at][:4] + _flipped(rng, pieces[at][4:])
    return b"".join(pieces)


def _jpeg_markers(rng, data):
    start = data.index(b"\xff\xda")
    for _ in range(rng.randint(1, 8)):
        at = rng.randrange(start, len(data))
        data = data[:at] + bytes([0xFF, rng.choice((0, 0xC0, 0xC4, 0xD0, 0xD7, 0xD8, 0xD9, 0xDA, 0xFE))]) + data[at:]
    return data


def _webp_sizes(rng, data):
    damaged, at = bytearray(data), rng.choice((4, 16))
    struct.pack_into("<I", damaged, at, rng.choice((0, 1, 10, len(data), len(data) - 9, 2**31, 2**32 - 1)))
    return bytes(damaged)


def _webp_order(rng, data):
    found = raw.riff_chunks(data)
    return raw.riff(rng.choice((rng.sample(found, len(found)), found[:-1], found + found)))


def _webp_canvas(rng, data):
    width, height = (max(1, rng.choice((*SIZES, 2**24))) for _ in range(2)) if rng.random() < 0.5 else (96, 64)
    found = [piece for piece in raw.riff_chunks(data) if piece[0] != b"VP8X"]
    return raw.riff([raw.canvas(width, height, rng.randrange(256)), *found])


ANY = {
    "truncated": _truncated,
    "last bytes missing": _shortened,
    "bit flips": _flipped,
    "one bit flipped": _one_flip,
    "bit flips in the header": lambda rng, data: _flipped(rng, data, min(64, len(data))),
    "run overwritten": _overwritten,
    "run deleted": _deleted,
    "run inserted": _inserted,
    "run duplicated": _duplicated,
    "tail without content": _zeroed_tail,
    "head of another": _spliced,
    "bytes in front": _late,
    "bytes behind": _doubled,
    "EXIF": lambda rng, data: _with_exif(rng, photo(rng)),
}
OF_FORMAT = {
    "PNG header": ("PNG", _png_header),
    "PNG chunk sizes": ("PNG", _png_sizes),
    "PNG chunk lengths": ("PNG", _png_lengths),
    "PNG chunk order": ("PNG", _png_order),
    "PNG chunk names": ("PNG", _png_names),
    "PNG chunks of noise": ("PNG", _png_extra),
    "PNG palette": ("PNG", lambda rng, data: _png_palette(rng, photos()["PNG"][3])),
    "PNG pixels of noise": ("PNG", _png_pixels),
    "JPEG frame header": ("JPEG", _jpeg_frame),
    "JPEG segments": ("JPEG", _jpeg_segments),
    "JPEG tables": ("JPEG", _jpeg_tables),
    "JPEG markers in the scan": ("JPEG", _jpeg_markers),
    "WebP sizes": ("WEBP", _webp_sizes),
    "WebP chunk order": ("WEBP", _webp_order),
    "WebP canvas": ("WEBP", _webp_canvas),
    "WebP header": ("WEBP", lambda rng, data: _flipped(rng, data, 30)),
}
