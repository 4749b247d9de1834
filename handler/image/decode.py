"""Encoded bytes -> RGB pixels: kinds, limits, orientation and colour modes. See also :mod:`handler.image.jpeg`.

The bytes decide the kind of the image. A few kilobytes can keep a decoder busy, so three costs are limited before
decoding. Pixels: a PNG of 11 kB can hold ninety million. Scans: a JPEG can repeat its passes over the image. Reads:
each part of a header costs Pillow one iteration of a Python loop.
"""

import io
import struct
import warnings
import zlib
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Self

import msgspec
import numpy as np
import numpy.typing as npt
from PIL import Image, TiffImagePlugin, UnidentifiedImageError

from handler.errors import BadRequest, TooLarge, UnsupportedMedia
from handler.image import cost, heic, jpeg, png, tiff, turbo
from handler.image.colours import is_rgb, rows_to_rgb, to_rgb
from handler.image.kinds import Kind, recognise
from handler.types import Size

DECODE_ERRORS = (OSError, SyntaxError, ValueError, EOFError, LookupError, RuntimeError, struct.error, zlib.error)
Image.MAX_IMAGE_PIXELS = None  # Limits.max_pixels is checked instead, before decoding
warnings.filterwarnings("ignore", module=r"PIL\.")  # about damaged EXIF and the like, which clients send
MAX_READS = 100_000  # of one file; a PNG takes four per chunk, so 20 MiB in chunks of 1 KiB pass
EXIF = b"Exif\0\0"  # how a piece begins
MAX_EXIF_PIECES = 100  # Pillow joins them one by one, which takes quadratic time
ORIENTATION = 0x0112  # the EXIF tag; values outside 2..8 leave the image as it is
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


class Photo(msgspec.Struct, frozen=True):
    """A decoded photo.

    ``pixels``: as stored in the file, an image in any mode, which ``colours`` converts, or RGB uint8 [h, w, 3].
    ``turn``: the transpose that brings it upright, None for none. ``size_hw``: size of the whole photo, upright.
    ``factor``: one pixel of ``pixels`` stands for factor x factor pixels of the photo.
    """

    pixels: Image.Image | npt.NDArray[np.uint8]
    size_hw: Size
    turn: Image.Transpose | None = None
    factor: int = 1

    @classmethod
    def of(cls, image: Image.Image) -> Self:
        """Return the Photo of an RGB image that is upright and of full size."""
        return cls(image, (image.height, image.width))

    @property
    def image(self) -> Image.Image:
        """The pixels as an image; a copy, if they are an array."""
        return self.pixels if isinstance(self.pixels, Image.Image) else Image.fromarray(self.pixels)

    @property
    def stored_hw(self) -> tuple[float, float]:
        """Size of the photo before the turn, in pixels of ``image``; a fraction if ``factor`` does not divide it."""
        height, width = self.size_hw[::-1] if self.turn in SIDEWAYS else self.size_hw
        return height / self.factor, width / self.factor

    def upright(self) -> Image.Image:
        """Return the image in mode RGB, turned upright."""
        image = to_rgb(self.image)
        return image if self.turn is None else image.transpose(self.turn)


class Limits(msgspec.Struct, frozen=True):
    """The images that are accepted: at most ``max_pixels`` (width x height), of the given ``kinds``.

    Raises ConfigError if a kind needs a package that is not installed.
    """

    max_pixels: int = 9344 * 7008  # 65,482,752: the 64 megapixels of phones, 9280 x 6944, and more than 8160 x 6144
    kinds: tuple[Kind, ...] = ("jpeg", "png", "webp")

    def __post_init__(self) -> None:
        if "heic" in self.kinds:
            heic.register()

    @property
    def formats(self) -> list[str]:
        """The names by which Pillow knows the kinds."""
        return [heic.FORMAT if kind == "heic" else kind.upper() for kind in self.kinds]


class _LimitedReads(io.BytesIO):
    """A file that raises BadRequest after MAX_READS reads, or MAX_EXIF_PIECES reads of a piece of EXIF."""

    reads = pieces = 0

    def read(self, size: int | None = -1, /) -> bytes:
        self.reads += 1
        if self.reads > MAX_READS:
            raise BadRequest(f"the image must be in at most {MAX_READS} pieces, got more: it is broken or hostile")
        data = super().read(size)
        self.pieces += data.startswith(EXIF)
        if self.pieces > MAX_EXIF_PIECES:
            raise BadRequest(f"the EXIF of an image must be in at most {MAX_EXIF_PIECES} pieces, got more")
        return data


def decode_image(
    data: bytes,
    limits: Limits,
    needed: Callable[[Size], Size] = lambda size_hw: size_hw,
    reserve: Callable[[int], None] = lambda _: None,
    into: turbo.Allocate = turbo.allocate,
) -> Photo:
    """Return the first frame.

    ``needed``: size (h, w) of the whole image, upright -> size at which the caller uses it. With it, a JPEG may be
    decoded at a reduced size. ``reserve`` is called before each decoding, with the bytes of memory that it takes until
    the image is resized. ``into`` gives the memory for an ordinary JPEG that is used as it is. Raises UnsupportedMedia
    if the kind is not allowed, TooLarge if there are too many pixels, BadRequest if the image is broken, truncated or
    built to keep a decoder busy, and what ``reserve`` raises.
    """
    if not data:
        raise BadRequest(f"the request must carry an image ({', '.join(limits.kinds)}), got no bytes")
    try:
        data = png.keep_needed_chunks(data) if data.startswith(png.START) else data
        return _decode_scaled(data, limits, needed, reserve, into)
    except UnidentifiedImageError as error:
        raise UnsupportedMedia(_explain_unreadable(data, limits)) from error
    except DECODE_ERRORS as error:
        error.with_traceback(None)  # frees the image in its frames
        photo = _decode_without_end(data, limits, needed, reserve) if data.startswith(jpeg.START) else None
        if photo is None:
            raise BadRequest(f"the image must be whole, got {len(data)} bytes that are broken or truncated") from error
        return photo


def _decode_scaled(
    data: bytes,
    limits: Limits,
    needed: Callable[[Size], Size],
    reserve: Callable[[int], None],
    into: turbo.Allocate,
) -> Photo:
    """Return the decoded image, at a reduced size if that is close enough."""
    with open_image(data, limits) as image:
        needed_hw = _needed_as_stored(image, needed)
        scaled = jpeg.plan_scaled_decode(image, needed_hw, data) if data.startswith(jpeg.START) else None
        photo = _decode(image, data, needed_hw, reserve, scaled, into=into)
    if scaled is None or scaled.is_close_enough(photo.image):
        return photo
    del photo, image  # frees their memory
    with open_image(data, limits) as image:
        return _decode(image, data, needed_hw, reserve)


def _decode_without_end(
    data: bytes, limits: Limits, needed: Callable[[Size], Size], reserve: Callable[[int], None]
) -> Photo | None:
    """Return a JPEG that lacks its end marker alone, None if it lacks pixels, too."""
    photo, checksums = None, set()
    with suppress(*DECODE_ERRORS):
        for ended in jpeg.with_ends(data):
            photo = None  # frees the memory of the picture before
            with open_image(ended, limits) as image:
                photo = _decode(image, ended, _needed_as_stored(image, needed), reserve, ends=False)
            checksums.add(jpeg.checksum(photo.image))
            if len(checksums) > 1:
                return None
        return photo
    return None


def _needed_as_stored(image: Image.Image, needed: Callable[[Size], Size]) -> Size:
    """Return the size at which an image that is not yet decoded is used, before the turn that brings it upright.

    An orientation behind the pixels of a PNG is not known here; then only the estimate of memory is less exact.
    """
    if "exif" in image.info and TURNS.get(read_orientation(image)) in SIDEWAYS:
        height, width = needed((image.width, image.height))
        return width, height
    return needed((image.height, image.width))


def open_image(data: bytes, limits: Limits) -> Image.Image:
    """Return the image, not yet decoded. Raises BadRequest or TooLarge if decoding would cost too much."""
    image = Image.open(_LimitedReads(data), formats=limits.formats)
    image.info.pop("xmp", None)  # Pillow would take an orientation from it; browsers and OpenCV do not
    if image.width * image.height > limits.max_pixels:
        raise TooLarge(f"the image must have at most {limits.max_pixels} pixels, got {image.width} x {image.height}")
    if data.startswith(jpeg.START):
        jpeg.check_scans(data, (image.height, image.width), limits.max_pixels)
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        tiff.check_samples(image.tag_v2)
    return image


def _decode(
    image: Image.Image,
    data: bytes,
    needed_hw: Size,
    reserve: Callable[[int], None],
    scaled: jpeg.ScaledDecode | None = None,
    *,
    into: turbo.Allocate = turbo.allocate,
    ends: bool = True,
) -> Photo:
    """Return the decoded image, at a reduced size if ``scaled`` is given and Pillow can do it.

    ``ends``: False if the end of a JPEG is made up, of which libjpeg-turbo would warn.
    """
    height, width = image.height, image.width
    reduced = scaled is not None and image.draft(image.mode, (width // scaled.factor, height // scaled.factor))
    factor = scaled.factor if scaled and reduced else 1
    reserve(cost.decode_bytes(image, data, (height, width), needed_hw))
    pixels = _load_jpeg(image, data, factor, needed_hw, into) if ends and data.startswith(jpeg.START) else None
    if pixels is None:
        pixels = image
        image.load()
        if image.mode == "P" and image.palette is None:
            raise BadRequest("an image with palette indices must have a palette, got none")
        if not is_rgb(image):
            rows_to_rgb(image, 0, 1)  # raises now what is wrong with its colours
    turn = TURNS.get(read_orientation(image))
    size_hw = (width, height) if turn in SIDEWAYS else (height, width)
    return Photo(pixels, size_hw, turn, factor)


def _load_jpeg(
    image: Image.Image, data: bytes, factor: int, needed_hw: Size, into: turbo.Allocate
) -> Image.Image | npt.NDArray[np.uint8] | None:
    """Return an ordinary JPEG as an array if it is used as it is, else as an image; None if Pillow has to load it."""
    if (image.height, image.width) == needed_hw:
        return turbo.decode(image, data, factor, padded=False, into=into)
    pixels = turbo.decode(image, data, factor, padded=True)
    return None if pixels is None else turbo.as_image(pixels)


def _explain_unreadable(data: bytes, limits: Limits) -> str:
    """Return what is wrong with bytes that Pillow cannot open, in words for an error."""
    content = recognise(data)
    expected = f"the image must be {', '.join(limits.kinds)}, got"
    if content is None:
        return f"{expected} {len(data)} bytes that are none of them"
    if content.kind not in limits.kinds:
        return f"{expected} {content.name}"
    why = tiff.explain_unreadable(data) if content.kind == "tiff" else "it is broken or truncated"
    return f"{expected} {content.name.partition(',')[0]} that cannot be read: {why}"


def read_orientation(image: Image.Image) -> Any:
    """Return the EXIF orientation, 1 if there is none or EXIF is broken: the pixels can still be used."""
    try:
        if "exif" not in image.info:
            return image.getexif().get(ORIENTATION, 1)
        exif = Image.Exif()  # that of a JPEG may already have its orientation from XMP
        exif.load(image.info["exif"])
        return exif.get(ORIENTATION, 1)
    except DECODE_ERRORS:
        return 1
