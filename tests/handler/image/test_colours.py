"""Colours become RGB as Pillow's own conversion of the whole image makes them, to the bit, however large it is."""

import io

import numpy as np
import pytest
from PIL import Image, ImageOps

from handler.image.colours import STRIP_PIXELS, to_rgb
from handler.image.decode import Limits, decode_image
from handler.model.mold import resize_image
from tests.handler.image.kinds import make

LIMITS = Limits(kinds=("jpeg", "png", "webp", "gif", "bmp", "tiff", "avif"))
WIDTH, HEIGHT = 211, 2 * STRIP_PIXELS // 211 + 97
IMAGES = dict(make(WIDTH, HEIGHT))
ENDED = [name for name in IMAGES if "without an end" not in name]
every_kind = pytest.mark.parametrize("name", ENDED)


def whole(data):
    """Return the image in RGB over white, converted in one piece, not turned."""
    image = Image.open(io.BytesIO(data))
    image.load()
    if image.mode.startswith("I"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if not image.has_transparency_data:
        return image.convert("RGB")
    shown = image.convert("RGBA")
    paper = Image.new("RGB", image.size, "white")
    paper.paste(shown, mask=shown)
    return paper


def sampled(image, size_hw):
    """Return an RGB image resized as one piece, in the halves that are asked for one after the other."""
    step_y, step_x = image.height / size_hw[0], image.width / size_hw[1]
    middle = size_hw[0] // 2
    halves = [
        image.transform(
            (size_hw[1], bottom - top),
            Image.Transform.AFFINE,
            (step_x, 0, 0, 0, step_y, step_y * top),
            Image.Resampling.BILINEAR,
        )
        for top, bottom in ((0, middle), (middle, size_hw[0]))
        if bottom > top
    ]
    return np.concatenate([np.asarray(half) for half in halves])


@every_kind
def test_the_whole_image(name):
    photo = decode_image(IMAGES[name], LIMITS)
    assert np.array_equal(np.asarray(to_rgb(photo.image)), np.asarray(whole(IMAGES[name])))
    upright = np.asarray(photo.upright())
    turned = whole(IMAGES[name])
    turned.getexif()[274] = Image.open(io.BytesIO(IMAGES[name])).getexif().get(274, 1)
    assert np.array_equal(upright, np.asarray(ImageOps.exif_transpose(turned)))
    assert np.array_equal(upright, np.asarray(photo.upright()))  # the photo itself has not changed


@every_kind
@pytest.mark.parametrize(
    "size_hw", [(1, 1), (100, 50), (203, 71), (97, 105), (HEIGHT // 3, 70), (HEIGHT, WIDTH), (700, 250)]
)
def test_resized_row_by_row(name, size_hw):
    photo = decode_image(IMAGES[name], LIMITS)
    expected = sampled(whole(IMAGES[name]), size_hw)
    assert np.array_equal(np.asarray(resize_image(photo.image, size_hw)), expected)


@pytest.mark.parametrize("size_hw", [(97, 53), (64, 64), (128, 100), (255, 85), (93, 31)])
def test_thirds_and_sevenths_of_noise(size_hw):
    """Where a sample is a whole number but for rounding, the last bit decides what it is cut to."""
    noise = np.random.default_rng(1).integers(0, 4, (651, 217), np.uint8) * 63
    image = Image.fromarray(noise)
    assert np.array_equal(np.asarray(resize_image(image, size_hw)), sampled(image.convert("RGB"), size_hw))
