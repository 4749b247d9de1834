"""Encoded bytes into RGB pixels: kinds, caps, orientation and colour modes; see :mod:`handler.image.jpeg` too.

The kind is taken from the bytes. What a few kilobytes can make a decoder do is bounded before it does it: pixels (a
PNG of 11 kB can hold ninety million), passes over the picture (a JPEG can repeat its scans), and pieces of a header,
each of which costs Pillow a turn of a Python loop.
"""

import io
import struct
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
from PIL import Image, ImageChops, UnidentifiedImageError

from handler.errors import BadRequest, TooLarge, UnsupportedMedia
from handler.image import jpeg
from handler.types import Size

Kind = Literal["jpeg", "png", "webp", "gif", "bmp", "tiff", "avif"]  # those of Pillow's that can be allowed
BROKEN = (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, zlib.error)
Image.MAX_IMAGE_PIXELS = None  # the cap is ours, checked on each image before it is decoded
warnings.filterwarnings("ignore", module=r"PIL\.")  # of a client's damaged EXIF and the like: no news for our log
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
SIDEWAYS = tuple(TURNS[orientation] for orientation in (5, 6, 7, 8))
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
class Photo:
    """A picture of ``size_hw`` as it is displayed; RGB ``image`` as it is stored, before ``turn``.

    One of its pixels stands for ``factor`` x ``factor`` of the picture's.
    """

    image: Image.Image
    size_hw: Size
    turn: Image.Transpose | None = None
    factor: int = 1

    @classmethod
    def of(cls, image: Image.Image) -> Self:
        """Return an RGB image that lies as it is displayed."""
        return cls(image, (image.height, image.width))

    @property
    def stored_hw(self) -> tuple[float, float]:
        """How many of its pixels the picture is high and wide, before the turn; a part of the last may lie beyond."""
        height, width = self.size_hw[::-1] if self.turn in SIDEWAYS else self.size_hw
        return height / self.factor, width / self.factor

    def upright(self) -> Image.Image:
        """Return the image turned."""
        return self.image if self.turn is None else self.image.transpose(self.turn)


@dataclass(frozen=True, slots=True)
class Limits:
    """Which images are taken: at most ``max_pixels`` (width x height), of ``kinds``."""

    max_pixels: int = 50_000_000
    kinds: tuple[Kind, ...] = ("jpeg", "png", "webp")


class _Metered(io.BytesIO):
    """A file that refuses to be read in too many pieces."""

    reads = 0

    def read(self, size: int | None = -1, /) -> bytes:
        self.reads += 1
        if self.reads > MAX_READS:
            raise BadRequest(f"the image must be in at most {MAX_READS} pieces, got more: it is broken or hostile")
        return super().read(size)


def decode_image(data: bytes, limits: Limits, needed: Callable[[Size], Size] | None = None) -> Photo:
    """Return the first frame, transparency laid over white.

    ``needed`` tells, from the size (h, w) of the whole picture, the size at which it will be used; a JPEG may then be
    decoded at a part of its size. Raises UnsupportedMedia where it is none of the kinds allowed, TooLarge above the
    pixels allowed, BadRequest where it is broken, truncated or built to keep a decoder busy.
    """
    kinds = ", ".join(limits.kinds)
    if not data:
        raise BadRequest(f"the request must carry an image ({kinds}), got no bytes")
    try:
        with _open(data, limits) as image:
            plan = _plan(image, data, needed)
            photo = _read(image, plan)
        if plan is not None and not plan.is_faithful(photo.image):
            with _open(data, limits) as image:
                photo = _read(image, None)
    except UnidentifiedImageError as error:
        raise UnsupportedMedia(f"the image must be {kinds}, got {_kind(data)}") from error
    except BROKEN as error:
        raise BadRequest(f"the image must be whole, got {len(data)} bytes that are broken or truncated") from error
    return photo


def _open(data: bytes, limits: Limits) -> Image.Image:
    """Return the image, not yet decoded. Raises BadRequest or TooLarge for one that would cost too much."""
    image = Image.open(_Metered(data), formats=[kind.upper() for kind in limits.kinds])
    if image.width * image.height > limits.max_pixels:
        raise TooLarge(f"the image must have at most {limits.max_pixels} pixels, got {image.width} x {image.height}")
    if data.startswith(jpeg.START):
        jpeg.check_scans(data, (image.height, image.width), limits.max_pixels)
    return image


def _plan(image: Image.Image, data: bytes, needed: Callable[[Size], Size] | None) -> jpeg.Reduction | None:
    """Return how a JPEG that is much larger than needed may be decoded, None for whole."""
    if needed is None or not data.startswith(jpeg.START):
        return None
    return jpeg.plan(image, needed((image.height, image.width)), data)


def _read(image: Image.Image, plan: jpeg.Reduction | None) -> Photo:
    """Return the image, decoded."""
    height, width = image.height, image.width
    smaller = plan is not None and image.draft(image.mode, (width // plan.factor, height // plan.factor))
    image.load()
    turn = TURNS.get(_orientation(image))
    size_hw = (width, height) if turn in SIDEWAYS else (height, width)
    return Photo(_rgb(image), size_hw, turn, plan.factor if plan and smaller else 1)


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
