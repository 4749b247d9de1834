"""Ordinary JPEGs -> pixels in an array, by libjpeg-turbo alone: Pillow uses that library, too, but copies each row.

Ordinary: three components of 8 bits with Huffman codes, in one scan, with an end marker. Several scans take as long
either way, and grey takes a quarter of the memory in Pillow. The pixels equal Pillow's: both ask for the accurate
transform and for smooth chroma. Pillow decodes what the library warns of, as it knows the errors that clients get.

No other kind of frame may come here. libjpeg-turbo before 3.1.4 writes beyond the buffer if a lossless frame is decoded
at a reduced size. Source: its ChangeLog.md, 3.1.4, item 1.
"""

from collections.abc import Callable
from contextlib import suppress

import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image, _imaging

from handler.image import jpeg

Allocate = Callable[[tuple[int, int, int]], npt.NDArray[np.uint8]]  # shape -> memory, to be filled


def allocate(shape: tuple[int, int, int]) -> npt.NDArray[np.uint8]:
    """Return new memory."""
    return np.empty(shape, np.uint8)


def decode(
    image: Image.Image, data: bytes, factor: int, *, padded: bool, into: Allocate = allocate
) -> npt.NDArray[np.uint8] | None:
    """Return the pixels of a JPEG opened by Pillow, RGB uint8 [h, w, 3], or None if Pillow has to decode it.

    ``factor``: by which the size of ``image`` is already reduced, 1 for none. ``padded``: with a fourth byte behind
    each pixel, as in Pillow's mode RGBX: uint8 [h, w, 4]. ``into``: gives the memory for the pixels.
    """
    if image.mode != "RGB" or jpeg.coefficient_bytes(image, data) or not jpeg.is_baseline(data):
        return None
    height, width = image.height, image.width
    pixels = into((height, width, 4 if padded else 3))
    reduced = {"min_height": height, "min_width": width, "min_factor": factor} if factor > 1 else {}
    with suppress(ValueError):  # a warning, an error, or a size for which the buffer is too small
        decoded = simplejpeg.decode_jpeg(data, "RGBX" if padded else "RGB", buffer=pixels, **reduced)
        return pixels if decoded.shape == pixels.shape else None
    return None


def as_image(pixels: npt.NDArray[np.uint8]) -> Image.Image:
    """Return uint8 [h, w, 4] as an image in mode RGB without a copy: Pillow has a fourth byte behind each pixel, too.

    ``Image.frombuffer`` does the same for mode RGBX alone, of which Pillow resizes the fourth byte, too.
    """
    height, width, _ = pixels.shape
    mapped = _imaging.map_buffer(pixels, (width, height), "raw", 0, ("RGB", 0, 1))
    return Image.new("RGB", (0, 0))._new(mapped)
