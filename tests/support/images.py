"""Images for requests whose pixels do not matter."""

import io

import numpy as np
from PIL import Image


def noise(width=64, height=64, kind="PNG"):
    """Return an encoded image of random pixels, the same on every call."""
    body = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)).save(body, kind)
    return body.getvalue()
