"""What it takes to decode an image, in bytes of memory, from its headers.

Sources: Pillow, ``src/libImaging/Storage.c`` (bytes of a pixel by mode); libjpeg-turbo, ``jdcoefct.c`` (coefficients of
a JPEG with several scans); libwebp, ``src/demux/anim_decode.c`` (two canvases). What else decoders take is measured:
``tests/handler/image/test_cost.py``.
"""

import math

from PIL import Image

from handler.image import jpeg
from handler.image.colours import STRIP_PIXELS, is_rgb
from handler.types import Size

PIXEL_BYTES = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16L": 2, "I;16B": 2, "I;16N": 2}  # by mode; of all others 4
RGB_BYTES = 4
ROW_BYTES = 8  # the pointer to each row
DECODER_BYTES = {"WEBP": 14.5, "AVIF": 12.0, "HEIF": 14.0, "TIFF": 9.0, "GIF": 1.0, "BMP": 1.0}  # beside the pixels
CONVERSION_BYTES = 14  # of a pixel that becomes RGB: cropped, as RGBA, its alpha twice, the result
FRAME_BYTES = 20  # of a pixel that is needed: RGB, its halves, the turned image, the array, the frame
DETAIL_BYTES = 2200  # of a column, if the detail of a reduced JPEG is measured
FIXED_BYTES = 5 << 20
BY_ROWS = 4  # an image with so many times the pixels that are needed is converted row by row, as it is resized
ROWS_AT_ONCE = 4  # two in each of two threads


def decode_bytes(image: Image.Image, data: bytes, size_hw: Size, needed_hw: Size) -> int:
    """Return the most memory that an image takes until it is resized to ``needed_hw``, in bytes.

    ``image``: opened by Pillow, not yet decoded; its size is the one at which it will be. ``size_hw``: of the file.
    """
    width, height = image.size
    pixels, needed = width * height, math.prod(needed_hw)
    total = len(data) + FIXED_BYTES + needed * FRAME_BYTES
    total += pixels * PIXEL_BYTES.get(image.mode, 4) + height * ROW_BYTES
    if not is_rgb(image):
        by_rows = is_read_by_rows(pixels, needed)
        at_once = ROWS_AT_ONCE * width if by_rows else min(pixels, max(STRIP_PIXELS, width))
        total += at_once * CONVERSION_BYTES + (0 if by_rows else pixels * RGB_BYTES)
    if not data.startswith(jpeg.START):
        return total + math.ceil(pixels * DECODER_BYTES.get(image.format or "", 0.0))
    if (height, width) != size_hw:
        total += width * DETAIL_BYTES
    return total + math.ceil(math.prod(size_hw) * jpeg.coefficient_bytes(image, data))


def is_read_by_rows(pixels: int, needed: int) -> bool:
    """Return True if an image that is not RGB stays as it is, and its rows are converted as they are needed."""
    return pixels > BY_ROWS * needed
