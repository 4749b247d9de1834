"""Encoded bytes into RGB pixels: kinds, size cap, orientation and colour modes.

The kind is taken from the bytes. The pixel count is read from the header and checked before anything is decoded, as a
few kilobytes of PNG can hold a hundred megapixels.
"""

import io
import struct
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from handler.errors import BadRequest, ImageTooLarge, UnsupportedMedia

FORMATS = ("JPEG", "PNG", "WEBP")
BROKEN = (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, zlib.error)
Image.MAX_IMAGE_PIXELS = None  # the cap is ours, checked on each image before it is decoded
MAX_SCANS = 100  # of a JPEG: each one costs a pass over the whole picture; encoders write about ten
JPEG, SCAN = b"\xff\xd8", b"\xff\xda"  # markers
ORIENTATION = 0x0112  # the EXIF tag; 1 and whatever is no orientation leave the picture as it is
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def decode_image(data: bytes, max_pixels: int) -> npt.NDArray[np.uint8]:
    """Return the image as RGB uint8 [H, W, 3], turned as its EXIF orientation says, transparency laid over white.

    Raises UnsupportedMedia where it is none of ``FORMATS``, ImageTooLarge above ``max_pixels``, BadRequest where it is
    broken or truncated.
    """
    if not data:
        raise BadRequest("the request must carry an image, got an empty body")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            return _pixels(image, data, max_pixels)
    except UnidentifiedImageError as error:
        raise UnsupportedMedia(
            f"the image must be {', '.join(FORMATS)}, got {len(data)} bytes of another kind"
        ) from error
    except BROKEN as error:
        raise BadRequest(f"the image must be whole, got {len(data)} bytes that are broken or truncated") from error


def _pixels(image: Image.Image, data: bytes, max_pixels: int) -> npt.NDArray[np.uint8]:
    width, height = image.size
    if width * height > max_pixels:
        raise ImageTooLarge(f"the image must have at most {max_pixels} pixels, got {width} x {height}")
    if data.startswith(JPEG) and data.count(SCAN) > MAX_SCANS:
        raise BadRequest(f"a JPEG must have at most {MAX_SCANS} scans, got {data.count(SCAN)}")
    image.load()
    turn = TURNS.get(_orientation(image))
    return np.asarray(_rgb(image if turn is None else image.transpose(turn)))


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
    if image.mode.startswith("I"):
        upper = np.asarray(image) >> 8
        return Image.fromarray(upper.clip(0, 255).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        opaque = image.convert("RGBA")
        white = Image.new("RGBA", opaque.size, (255, 255, 255, 255))
        white.alpha_composite(opaque)
        return white.convert("RGB")
    return image.convert("RGB")
