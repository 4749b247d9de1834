"""The photographs of the benchmark: four of scikit-image's, beside one another, at two sizes."""

import io

import numpy as np
import skimage.data
from PIL import Image

QUALITY = 90
SMALL_HW = 1024, 1024  # the model's own frame: nothing is resized
PHONE_HW = 3024, 4032  # twelve megapixels
GRAIN = 1.0  # standard deviation of the noise that a sensor adds, grey levels


def tiles():
    """Return astronaut, coffee, chelsea and rocket as one image uint8 [1024, 1024, 3], each at its own resolution."""
    half = SMALL_HW[0] // 2
    corners = []
    for name in ("astronaut", "coffee", "chelsea", "rocket"):
        photo = getattr(skimage.data, name)()
        repeats = [-(-half // side) for side in photo.shape[:2]]
        corners.append(np.tile(photo, (*repeats, 1))[:half, :half])
    return np.concatenate([np.concatenate(corners[:2], axis=1), np.concatenate(corners[2:], axis=1)])


def small():
    """Return the JPEG of 1024 x 1024, sharp to the pixel."""
    return encode(Image.fromarray(tiles()))


def phone():
    """Return the JPEG of twelve megapixels: enlarged, as sharp at a pixel as a lens is, with a sensor's grain."""
    image = np.asarray(Image.fromarray(tiles()).resize(PHONE_HW[::-1], Image.Resampling.BICUBIC)).astype(np.float32)
    image += np.random.default_rng(0).normal(0, GRAIN, image.shape).astype(np.float32)
    return encode(Image.fromarray(image.clip(0, 255).astype(np.uint8)))


def sized(megapixels):
    """Return the twelve-megapixel photograph at another size, for time against megapixels."""
    side = (megapixels * 1e6 / (PHONE_HW[0] * PHONE_HW[1])) ** 0.5
    image = Image.open(io.BytesIO(phone()))
    return encode(image.resize((round(PHONE_HW[1] * side), round(PHONE_HW[0] * side)), Image.Resampling.BICUBIC))


def encode(image, kind="JPEG", **settings):
    body = io.BytesIO()
    image.save(body, kind, quality=QUALITY, **settings)
    return body.getvalue()
