"""What it takes to decode an image, in bytes of memory, from its headers.

Sources: Pillow, ``src/libImaging/Storage.c`` (bytes of a pixel by mode); libjpeg-turbo, ``jdcoefct.c`` (coefficients of
a JPEG with several scans); libwebp, ``src/demux/anim_decode.c`` (two canvases). What else decoders take is measured:
``tests/handler/image/test_cost.py``.
"""

import math

from PIL import Image

from handler.image import jpeg
from handler.image.colours import is_rgb
from handler.types import Size

PIXEL_BYTES = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16L": 2, "I;16B": 2, "I;16N": 2}  # by mode; of all others 4
RGB_BYTES = 4
DECODER_BYTES = {"WEBP": 13.0, "AVIF": 12.0, "HEIF": 14.0, "TIFF": 9.0, "GIF": 1.0, "BMP": 1.0}  # beside the pixels
FRAME_BYTES = 20  # of a pixel that is needed: RGB, its halves, the turned image, the array, the frame
CODED_BYTES = 1  # a copy of the file
FIXED_BYTES = 4 << 20
BY_ROWS = 4  # an image with so many times the pixels that are needed is converted row by row, as it is resized


def decode_bytes(image: Image.Image, data: bytes, size_hw: Size, needed_hw: Size) -> int:
    """Return the most memory that an image takes until it is resized to ``needed_hw``, in bytes.

    ``image``: opened by Pillow, not yet decoded; its size is the one at which it will be. ``size_hw``: of the file.
    """
    pixels, needed = image.width * image.height, math.prod(needed_hw)
    pixel_bytes = PIXEL_BYTES.get(image.mode, 4)
    if not is_rgb(image) and not is_read_by_rows(pixels, needed):
        pixel_bytes += RGB_BYTES
    decoder_bytes = DECODER_BYTES.get(image.format or "", 0.0)
    if data.startswith(jpeg.START):
        decoder_bytes = jpeg.coefficient_bytes(image, data)
    whole = pixels * pixel_bytes + math.prod(size_hw) * decoder_bytes
    return math.ceil(whole) + needed * FRAME_BYTES + len(data) * CODED_BYTES + FIXED_BYTES


def is_read_by_rows(pixels: int, needed: int) -> bool:
    """Return True if an image that is not RGB stays as it is, and its rows are converted as they are needed."""
    return pixels > BY_ROWS * needed
