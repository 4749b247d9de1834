"""Images as phones and browsers send them: one black block on white, in every kind, mode and orientation."""

import functools
import io
import struct
import zlib
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageCms, PngImagePlugin

from tests.http import raw

HW, DARK = (96, 160), (16, 16, 32, 64)  # no turn or flip of the block meets the block
INK, PAPER = 0, 255
SMALL = (  # height and width, the block
    ((1, 1), (0, 0, 1, 1)),
    ((1, 2), (0, 0, 1, 1)),
    ((16, 16), (0, 0, 16, 8)),
    ((31, 20), (16, 0, 31, 16)),
    ((400, 1), (16, 0, 112, 1)),
    ((1, 400), (0, 16, 1, 112)),
    ((20, 3000), (0, 160, 16, 800)),
    ((3000, 20), (160, 0, 800, 16)),
)


@dataclass(frozen=True)
class Sample:
    """An encoded image, its size as displayed, and the y1, x1, y2, x2 of the only black block in it."""

    name: str
    data: bytes
    displayed_hw: tuple[int, int]
    dark: tuple[int, int, int, int]


@functools.cache
def samples() -> tuple[Sample, ...]:
    """Return the corpus, the same on every call."""
    parts = (_small, _jpegs, _cmyk, _turned, _png_modes, _transparent, _by_hand, _webps, _large)
    return tuple(sample for part in parts for sample in part())


@functools.cache
def lenient() -> tuple[Sample, ...]:
    """Return images that browsers and OpenCV show as they are, but that Pillow alone refuses, turns or finds large."""
    return (*_endless(), *_odd_chunks(), *_xmp(), _of_a_phone())


def _endless():
    image = _picture()
    for name, data in {
        "baseline": _jpeg(image),
        "progressive": _jpeg(image, progressive=True),
        "restarts": _jpeg(image, restart_marker_rows=1),
    }.items():
        yield _sample(f"JPEG {name} without its end", data[:-2])
        yield _sample(f"JPEG {name} with half its end", data[:-1])


def _odd_chunks():
    whole, much = raw.chunks(_encode(_picture(), "PNG")), zlib.compress(bytes(2_000_000))
    for name, content in {b"tEXt": b"key\0text", b"tIME": bytes(7), b"gAMA": bytes(4), b"prVt": b"private"}.items():
        damaged = raw.chunk(name, content)[:-1] + b"\0"
        data = raw.join(whole)
        yield _sample(f"PNG {name.decode()} with a wrong checksum", data[:33] + damaged + data[33:])
    for name, head in {b"zTXt": b"key\0\0", b"iTXt": b"key\0\1\0\0\0", b"iCCP": b"key\0\0"}.items():
        yield _sample(f"PNG {name.decode()} of 2 MB", raw.join([whole[0], (name, head + much), *whole[1:]]))


def _xmp():
    packet = "<x:xmpmeta xmlns:x='adobe:ns:meta/'><rdf:Description tiff:Orientation=\"6\"/></x:xmpmeta>"
    notes = PngImagePlugin.PngInfo()
    notes.add_itxt("XML:com.adobe.xmp", packet)
    yield _sample("PNG orientation 6 in XMP", _encode(_picture(), "PNG", pnginfo=notes))
    for kind in ("JPEG", "WEBP"):
        yield _sample(f"{kind} orientation 6 in XMP", _encode(_picture(), kind, xmp=packet.encode(), quality=90))


def _of_a_phone():
    hw, dark = (6144, 8160), (640, 960, 3200, 2560)
    return Sample("JPEG 8160x6144", _jpeg(_picture("L", hw, dark)), hw, dark)


def _block(ink, paper, hw=HW, dark=DARK):
    """Return an array of ``paper`` with a block of ``ink``; both are numbers or tuples of one length."""
    array = np.full((*hw, *np.shape(paper)), paper, np.int64)
    array[dark[0] : dark[2], dark[1] : dark[3]] = ink
    return array


def _picture(mode="RGB", hw=HW, dark=DARK):
    return Image.fromarray(_block(INK, PAPER, hw, dark).astype(np.uint8)).convert(mode)


def _encode(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _jpeg(image, **options):
    return _encode(image, "JPEG", **{"quality": 90, **options})


def _sample(name, data):
    return Sample(name, data, HW, DARK)


def _profile():
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return profile[:24] + bytes(12) + profile[36:]  # without the time it was made


def _small():
    for hw, dark in SMALL:
        image = _picture("RGB", hw, dark)
        for kind, options in (("JPEG", {"quality": 95, "subsampling": 0}), ("PNG", {}), ("WEBP", {"lossless": True})):
            yield Sample(f"{kind} {hw[1]}x{hw[0]}", _encode(image, kind, **options), hw, dark)


def _jpegs():
    image, grey = _picture(), _picture("L")
    plain, shot = _jpeg(image), _jpeg(image, subsampling="4:2:0")
    thumbnail = _jpeg(Image.new("RGB", (40, 24)))  # black, so that it is not taken for the picture
    for name, data in {
        "baseline": plain,
        "quality 30": _jpeg(image, quality=30),
        "4:2:0": shot,
        "4:2:2": _jpeg(image, subsampling="4:2:2"),
        "4:4:4": _jpeg(image, subsampling="4:4:4"),
        "progressive": _jpeg(image, progressive=True),
        "optimized": _jpeg(image, optimize=True),
        "restart markers": _jpeg(image, restart_marker_blocks=3),
        "RGB without YCbCr": _jpeg(image, keep_rgb=True),
        "grey": _jpeg(grey),
        "grey progressive": _jpeg(grey, progressive=True),
        "ICC profile": _jpeg(image, icc_profile=_profile()),
        "comment": _jpeg(image, comment="Made by a test. \xe9"),
        "300 dpi": _jpeg(image, dpi=(300, 300)),
        "XMP": raw.with_segment(plain, 0xE1, b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta xmlns:x='adobe:ns:meta/'/>"),
        "bytes after the end": plain + b"\0" * 100 + b"SEFH" + b"\xff\xd8" * 20,
        "fill bytes before a marker": plain[:2] + b"\xff" * 7 + plain[2:],
        "EXIF thumbnail": raw.with_segment(plain, 0xE1, b"Exif\0\0" + raw.exif(1, "<", thumbnail)),
        "EXIF big-endian": raw.with_segment(plain, 0xE1, b"Exif\0\0" + raw.exif(1, ">")),
        "EXIF damaged": raw.with_segment(plain, 0xE1, b"Exif\0\0" + raw.exif(1)[:15]),
        "MPO": _encode(image, "MPO", save_all=True, append_images=[Image.new("RGB", (HW[1], HW[0]))]),
    }.items():
        yield _sample(f"JPEG {name}", data)


def _cmyk():
    black = np.stack([_block(0, 0)] * 3 + [_block(255, 0)], axis=-1).astype(np.uint8)
    rich = np.stack([_block(255, 0)] * 3 + [_block(0, 0)], axis=-1).astype(np.uint8)
    yield _sample("JPEG CMYK, black ink", _jpeg(Image.fromarray(black, "CMYK")))
    yield _sample("JPEG CMYK, black of three inks", _jpeg(Image.fromarray(rich, "CMYK")))
    yield _sample("JPEG CMYK progressive", _jpeg(Image.fromarray(black, "CMYK"), progressive=True))
    channels = (*_picture("YCbCr").split(), Image.new("L", (HW[1], HW[0])))
    data = bytearray(_jpeg(Image.merge("CMYK", channels)))
    transform = data.index(b"\xff\xee\0\x0eAdobe") + 15
    if data[transform] != 0:
        raise ValueError(f"Pillow must write CMYK as it is, transform 0, got {data[transform]}")
    data[transform] = 2
    yield _sample("JPEG YCCK", bytes(data))


def _turned():
    """Yield each orientation: the stored pixels are the displayed ones turned back, by numpy."""
    shown = np.asarray(_picture())
    stored = {
        1: shown,
        2: shown[:, ::-1],
        3: shown[::-1, ::-1],
        4: shown[::-1],
        5: shown.transpose(1, 0, 2),
        6: np.rot90(shown),
        7: shown[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(shown, -1),
    }
    thumbnail = _jpeg(Image.new("RGB", (40, 24)))
    for orientation, pixels in stored.items():
        image = Image.fromarray(np.ascontiguousarray(pixels))
        block = b"Exif\0\0" + raw.exif(orientation)
        for kind in ("JPEG", "PNG", "WEBP"):
            yield _sample(f"{kind} orientation {orientation}", _encode(image, kind, exif=block, quality=90))
        big = b"Exif\0\0" + raw.exif(orientation, ">", thumbnail)
        yield _sample(f"JPEG orientation {orientation} of a phone", raw.with_segment(_jpeg(image), 0xE1, big))
    image = Image.fromarray(np.ascontiguousarray(stored[6]))
    second = Image.new("RGB", image.size)
    block = b"Exif\0\0" + raw.exif(6)
    yield _sample("MPO orientation 6", _encode(image, "MPO", save_all=True, append_images=[second], exif=block))
    late = raw.png(stored[6], 8, 2, after=[(b"eXIf", raw.exif(6))])
    yield _sample("PNG orientation 6 after the pixels", late)


def _png_modes():
    notes = PngImagePlugin.PngInfo()
    notes.add(b"gAMA", struct.pack(">I", 45455))
    notes.add_text("Software", "a test")
    notes.add_text("Comment", "compressed " * 20, zip=True)
    notes.add_itxt("Title", "ünïcode", "de", "Titel")
    image, later = _picture(), Image.new("RGB", (HW[1], HW[0]), "white")
    moving = {"save_all": True, "append_images": [later, later], "duration": 50}
    for name, data in {
        "RGB": _encode(image, "PNG"),
        "grey": _encode(_picture("L"), "PNG"),
        "1-bit": _encode(_picture("1"), "PNG"),
        "palette": _encode(image.quantize(2), "PNG"),
        "web palette": _encode(image.convert("P"), "PNG"),
        "grey 16-bit": _encode(Image.fromarray(_block(0x0100, 0xFFFF).astype(np.uint16)), "PNG"),
        "ICC profile": _encode(image, "PNG", icc_profile=_profile()),
        "gAMA and text": _encode(image, "PNG", pnginfo=notes),
        "300 dpi": _encode(image, "PNG", dpi=(300, 300)),
        "animated": _encode(image, "PNG", **moving),
    }.items():
        yield _sample(f"PNG {name}", data)


def _transparent():
    """Yield pictures whose paper is black where nobody sees it."""
    rgba = Image.fromarray(_block((0, 0, 0, 255), (0, 0, 0, 0)).astype(np.uint8))
    grey = Image.fromarray(_block((0, 255), (0, 0)).astype(np.uint8), "LA")
    palette = Image.fromarray(_block(1, 0).astype(np.uint8), "P")
    palette.putpalette([0, 0, 0, 0, 0, 0])
    moving = {"save_all": True, "append_images": [Image.new("RGBA", rgba.size)] * 2, "duration": 50}
    on_black = PngImagePlugin.PngInfo()
    on_black.add(b"bKGD", bytes(6))
    for name, data in {
        "PNG RGBA": _encode(rgba, "PNG"),
        "PNG RGBA that asks for a black background": _encode(rgba, "PNG", pnginfo=on_black),
        "PNG RGBA animated": _encode(rgba, "PNG", **moving),
        "PNG grey with alpha": _encode(grey, "PNG"),
        "PNG palette, transparent entry": _encode(palette, "PNG", transparency=0),
        "PNG palette, alpha of every entry": _encode(palette, "PNG", transparency=b"\0\xff"),
        "WEBP RGBA lossless": _encode(rgba, "WEBP", lossless=True, exact=True),
        "WEBP RGBA lossy": _encode(rgba, "WEBP", quality=90, exact=True),
        "WEBP RGBA animated": _encode(rgba, "WEBP", lossless=True, exact=True, **moving),
    }.items():
        yield _sample(name, data)


def _by_hand():
    def key(*values):
        return [(b"tRNS", struct.pack(f">{len(values)}H", *values))]

    rgb = _block((INK,) * 3, (PAPER,) * 3)
    seen, unseen = (0, 0, 0, 0xFFFF), (0, 0, 0, 0)
    hidden = [(b"PLTE", bytes(6)), (b"tRNS", b"\0\xff")]
    for name, data in {
        "palette 8-bit, transparent entry": raw.png(_block(1, 0), 8, 3, before=hidden),
        "palette 2-bit": raw.png(_block(0, 3), 2, 3, before=[(b"PLTE", bytes(9) + b"\xff" * 3)]),
        "palette 4-bit": raw.png(_block(0, 2), 4, 3, before=[(b"PLTE", bytes(6) + b"\xff" * 3)]),
        "grey 2-bit": raw.png(_block(0, 3), 2, 0),
        "grey 4-bit": raw.png(_block(0, 15), 4, 0),
        "RGB 16-bit": raw.png(_block((0x0FFF,) * 3, (0xFFFF,) * 3), 16, 2),
        "RGBA 16-bit": raw.png(_block(seen, unseen), 16, 6),
        "grey with alpha 16-bit": raw.png(_block((0, 0xFFFF), (0, 0)), 16, 4),
        "grey, black is transparent": raw.png(_block(20, 0), 8, 0, before=key(0)),
        "grey 4-bit, black is transparent": raw.png(_block(1, 0), 4, 0, before=key(0)),
        "grey 16-bit, one value is transparent": raw.png(_block(0, 0x0101), 16, 0, before=key(0x0101)),
        "RGB, one colour is transparent": raw.png(_block((0, 0, 0), (1, 2, 3)), 8, 2, before=key(1, 2, 3)),
        "RGB 16-bit, black is transparent": raw.png(_block((0x0FFF,) * 3, (0,) * 3), 16, 2, before=key(0, 0, 0)),
        "interlaced RGB": raw.png(rgb, 8, 2, interlaced=True),
        "interlaced grey": raw.png(_block(INK, PAPER), 8, 0, interlaced=True),
        "interlaced 1-bit": raw.png(_block(0, 1), 1, 0, interlaced=True),
        "interlaced RGBA 16-bit": raw.png(_block(seen, unseen), 16, 6, interlaced=True),
        "interlaced palette, transparent entry": raw.png(_block(1, 0), 2, 3, interlaced=True, before=hidden),
    }.items():
        yield _sample(f"PNG {name}", data)
    hw, dark = (3, 5), (0, 1, 2, 2)  # leaves several of the seven passes empty
    yield Sample("PNG interlaced 5x3", raw.png(_block(INK, PAPER, hw, dark), 8, 0, interlaced=True), hw, dark)


def _webps():
    image, later = _picture(), Image.new("RGB", (HW[1], HW[0]), "white")
    for name, data in {
        "lossy": _encode(image, "WEBP", quality=80),
        "lossless": _encode(image, "WEBP", lossless=True),
        "grey": _encode(_picture("L"), "WEBP"),
        "ICC profile and XMP": _encode(image, "WEBP", icc_profile=_profile(), xmp=b"<x:xmpmeta/>", quality=80),
        "animated": _encode(image, "WEBP", save_all=True, append_images=[later, later], duration=50),
    }.items():
        yield _sample(f"WEBP {name}", data)


def _large():
    hw, dark = (1600, 1200), (160, 160, 800, 480)
    yield Sample("JPEG 1200x1600", _jpeg(_picture("RGB", hw, dark), subsampling="4:2:0"), hw, dark)
    wide, block = np.ascontiguousarray(np.rot90(_picture("RGB", hw, dark))), b"Exif\0\0" + raw.exif(6, ">")
    yield Sample("JPEG 1600x1200 orientation 6", _jpeg(Image.fromarray(wide), exif=block), hw, dark)
