"""Encoded bytes into RGB pixels: kinds, caps, orientation and colour modes.

The kind is taken from the bytes. What a few kilobytes can make a decoder do is bounded before it does it: pixels (a
PNG of 11 kB can hold ninety million), passes over the picture (a JPEG can repeat its scans), and pieces of a header,
each of which costs Pillow a turn of a Python loop.
"""

import io
import re
import struct
import warnings
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageChops, UnidentifiedImageError

from handler.errors import BadRequest, TooLarge, UnsupportedMedia

KINDS = ("jpeg", "png", "webp", "gif", "bmp", "tiff", "avif")  # of Pillow's, those that can be allowed
BROKEN = (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, zlib.error)
Image.MAX_IMAGE_PIXELS = None  # the cap is ours, checked on each image before it is decoded
warnings.filterwarnings("ignore", module=r"PIL\.")  # of a client's damaged EXIF and the like: no news for our log
JPEG = b"\xff\xd8"  # how a JPEG begins
MARKER = re.compile(rb"\xff+([^\x00\x01\xd0-\xd8\xff])", re.DOTALL)  # of a segment with a length, or of the end
SCAN, END = 0xDA, 0xD9
MAX_SCANS = 100  # of a JPEG: each one costs a pass over the whole picture; encoders write about ten
SCANNED_SHARE = 20  # ... and all passes together at most so many times the pixels that are allowed
MAX_READS = 100_000  # by Pillow, of one file; a PNG takes four a chunk: 20 MiB in chunks of 1 KiB pass
ORIENTATION = 0x0112  # the EXIF tag; 1 and whatever is no orientation leave the picture as it is
WHITE = (255, 255, 255)
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


HEIC = "a HEIC photo, as iPhones keep them: send it as JPEG"
OTHERS = {
    **dict.fromkeys((b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1"), HEIC),
    **{b"avif": "an AVIF", b"avis": "an AVIF", b"GIF8": "a GIF", b"BM": "a BMP", b"%PDF": "a PDF"},
    **{b"II*\0": "a TIFF", b"MM\0*": "a TIFF", b"\x1f\x8b": "a gzip", b"PK\3\4": "a ZIP", b"<": "markup such as SVG"},
    b"\xff\xd8": "a JPEG that cannot be read",
    b"\x89PNG": "a PNG that cannot be read",
    b"RIFF": "a WebP that cannot be read",
}


@dataclass(frozen=True, slots=True)
class Limits:
    """Which images are taken: at most ``max_pixels`` (width x height), of ``kinds`` (out of ``KINDS``)."""

    max_pixels: int = 50_000_000
    kinds: tuple[str, ...] = ("jpeg", "png", "webp")


class _Metered(io.BytesIO):
    """A file that refuses to be read in too many pieces."""

    reads = 0

    def read(self, size: int | None = -1, /) -> bytes:
        self.reads += 1
        if self.reads > MAX_READS:
            raise BadRequest(f"the image must be in at most {MAX_READS} pieces, got more: it is broken or hostile")
        return super().read(size)


def decode_image(data: bytes, limits: Limits) -> Image.Image:
    """Return the first frame in mode RGB, turned as its EXIF orientation says, transparency laid over white.

    Raises UnsupportedMedia where it is none of the kinds allowed, TooLarge above the pixels allowed, BadRequest where
    it is broken, truncated or built to keep a decoder busy.
    """
    kinds = ", ".join(limits.kinds)
    if not data:
        raise BadRequest(f"the request must carry an image ({kinds}), got no bytes")
    try:
        with Image.open(_Metered(data), formats=[kind.upper() for kind in limits.kinds]) as image:
            _check(image, data, limits.max_pixels)
            image.load()
            turn = TURNS.get(_orientation(image))
            return _rgb(image if turn is None else image.transpose(turn))
    except UnidentifiedImageError as error:
        raise UnsupportedMedia(f"the image must be {kinds}, got {_kind(data)}") from error
    except BROKEN as error:
        raise BadRequest(f"the image must be whole, got {len(data)} bytes that are broken or truncated") from error


def _check(image: Image.Image, data: bytes, max_pixels: int) -> None:
    width, height = image.size
    if width * height > max_pixels:
        raise TooLarge(f"the image must have at most {max_pixels} pixels, got {width} x {height}")
    if data.startswith(JPEG):
        most = min(MAX_SCANS, SCANNED_SHARE * max_pixels // (width * height))
        if _has_more_scans(data, most):
            raise BadRequest(f"a JPEG of {width} x {height} must have at most {most} scans, got more")


def _has_more_scans(data: bytes, most: int) -> bool:
    """Tell whether a JPEG has more scans, or parts between them, than allowed; what follows its end does not count."""
    at = scans = parts = 0
    while (found := MARKER.search(data, at)) and found[1][0] != END:
        scans += found[1][0] == SCAN
        parts += 1
        if scans > most or parts > MAX_READS:
            return True
        at = found.end() + int.from_bytes(data[found.end() : found.end() + 2])
    return False


def _kind(data: bytes) -> str:
    """Return what the bytes are instead of an image that is taken, as far as they tell."""
    if data[4:8] == b"ftyp":
        return OTHERS.get(data[8:12], "a film or a photo in a film's format")
    for start, name in OTHERS.items():
        if data.startswith(start):
            return name
    return f"{len(data)} bytes that are none of them"


def _orientation(image: Image.Image) -> Any:
    """Return the EXIF orientation, 1 where there is none or the block is broken: the pixels are still good."""
    try:
        return image.getexif().get(ORIENTATION, 1)
    except BROKEN:
        return 1


def _rgb(image: Image.Image) -> Image.Image:
    """Return the image in mode RGB; 16-bit greys keep their upper byte, where Pillow would clip them to white."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode == "P" and image.palette is None:
        raise BadRequest("an image with palette indices must have a palette, got none")
    if image.mode.startswith("I"):
        return _grey16(image)
    if not image.has_transparency_data:
        return image.convert("RGB")
    opaque = image if image.mode == "RGBA" else image.convert("RGBA")
    opaque.paste(WHITE, mask=ImageChops.invert(opaque.getchannel("A")))  # in place: a second RGBA could be 200 MB
    return opaque.convert("RGB")


def _grey16(image: Image.Image) -> Image.Image:
    values = np.asarray(image)
    grey = (values >> 8).clip(0, 255).astype(np.uint8)
    if "transparency" in image.info:
        grey[values == image.info["transparency"]] = 255
    return Image.fromarray(grey).convert("RGB")
