"""Colour modes -> RGB, a strip of rows at a time, so that a large image never lies in memory in two modes at once."""

from collections.abc import Iterator

import numpy as np
from PIL import Image, ImageChops

WHITE = (255, 255, 255)
STRIP_PIXELS = 1 << 18  # that are converted at once, but at least a row


def is_rgb(image: Image.Image) -> bool:
    """Return True if the image is RGB and no colour in it stands for transparent pixels."""
    return image.mode == "RGB" and "transparency" not in image.info


def to_rgb(image: Image.Image) -> Image.Image:
    """Return the image in mode RGB; transparent pixels become white. An image that is RGB is returned itself.

    Of 16-bit greys, the upper byte is kept: Pillow would clip them to white.
    """
    if is_rgb(image):
        return image
    result = Image.new("RGB", image.size)
    for top, bottom in strips(image):
        result.paste(rows_to_rgb(image, top, bottom), (0, top))
    return result


def strips(image: Image.Image) -> Iterator[tuple[int, int]]:
    """Yield the first row of each strip of an image, and the one behind its last."""
    rows = max(1, STRIP_PIXELS // image.width)
    for top in range(0, image.height, rows):
        yield top, min(top + rows, image.height)


def rows_to_rgb(image: Image.Image, top: int, bottom: int) -> Image.Image:
    """Return rows ``top`` to ``bottom`` (exclusive) of the image as :func:`to_rgb` does."""
    rows = image.crop((0, top, image.width, bottom))
    if is_rgb(rows):
        return rows
    if rows.mode.startswith("I"):
        return _grey16_to_rgb(rows)
    if not rows.has_transparency_data:
        return rows.convert("RGB")
    flat = rows.convert("RGBA")
    flat.paste(WHITE, mask=ImageChops.invert(flat.getchannel("A")))
    return flat.convert("RGB")


def _grey16_to_rgb(image: Image.Image) -> Image.Image:
    """Return a 16-bit grey image in mode RGB; its transparent value becomes white."""
    values = np.asarray(image)
    grey = (values >> 8).clip(0, 255).astype(np.uint8)
    if "transparency" in image.info:
        grey[values == image.info["transparency"]] = 255
    return Image.fromarray(grey).convert("RGB")
