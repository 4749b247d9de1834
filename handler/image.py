"""Encoded bytes into RGB pixels: kinds, size cap, orientation and colour modes.

The kind is taken from the bytes. The pixel count is read from the header and checked before anything is decoded, as a
few kilobytes of PNG can hold a hundred megapixels.
"""

import io
import struct
import warnings
import zlib

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from handler.errors import BadRequest, ImageTooLarge, UnsupportedMedia

FORMATS = ("JPEG", "PNG", "WEBP")
BROKEN = (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, zlib.error)
Image.MAX_IMAGE_PIXELS = None  # the cap is ours, checked on each image before it is decoded


def decode_image(data: bytes, max_pixels: int) -> npt.NDArray[np.uint8]:
    """Return the image as RGB uint8 [H, W, 3], turned as its EXIF orientation says, transparency laid over white.

    Raises UnsupportedMedia where it is none of ``FORMATS``, ImageTooLarge above ``max_pixels``, BadRequest where it is
    broken or truncated.
    """
    if not data:
        raise BadRequest("the request must carry an image, got an empty body")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a malformed EXIF block only warns: the pixels are still good
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                return _pixels(image, max_pixels)
    except UnidentifiedImageError as error:
        raise UnsupportedMedia(
            f"the image must be {', '.join(FORMATS)}, got {len(data)} bytes of another kind"
        ) from error
    except BROKEN as error:
        raise BadRequest(
            f"the image must be whole, got one that is broken or truncated: {str(error) or type(error).__name__}"
        ) from error


def _pixels(image: Image.Image, max_pixels: int) -> npt.NDArray[np.uint8]:
    width, height = image.size
    if width * height > max_pixels:
        raise ImageTooLarge(f"the image must have at most {max_pixels} pixels, got {width} x {height}")
    image.load()
    return np.asarray(_rgb(ImageOps.exif_transpose(image)))


def _rgb(image: Image.Image) -> Image.Image:
    """Return the image in mode RGB; 16-bit greys keep their upper byte, where Pillow would clip them to white."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I") or image.mode == "F":
        wide = np.asarray(image).astype(np.int64)
        return Image.fromarray(np.clip(wide >> 8, 0, 255).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        opaque = image.convert("RGBA")
        white = Image.new("RGBA", opaque.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, opaque).convert("RGB")
    return image.convert("RGB")
