"""Independent readers of what the function answers: pycocotools, Pillow, NumPy and Matplotlib, each in its own way."""

import base64
import io
import warnings

import numpy as np
from matplotlib.path import Path as Curve
from PIL import Image
from pycocotools import mask as coco


def coco_decode(rle):
    """Return the mask uint8 [H, W] of COCO run-length encoding."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # pycocotools 2 predates NumPy 2's copy keyword
        return coco.decode(rle)


def fill(polygons, image_hw):
    """Return the mask bool [H, W] of flat rings: a pixel is inside where its centre is within an odd number of them."""
    height, width = image_hw
    centres = np.stack(np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5), axis=-1).reshape(-1, 2)
    inside = np.zeros(len(centres), np.int64)
    for flat in polygons:
        ring = np.array(flat).reshape(-1, 2)
        inside += Curve(np.concatenate([ring, ring[:1]])).contains_points(centres)
    return (inside % 2 == 1).reshape(height, width)


def png_decode(mask, box, image_hw):
    """Return the mask uint8 [H, W] of a PNG in base64 that lies at ``box``."""
    image = Image.open(io.BytesIO(base64.b64decode(mask["data"], validate=True)), formats=["PNG"])
    assert (image.mode, image.size) == ("L", (box["width"], box["height"]))
    values = np.asarray(image)
    assert set(np.unique(values)) <= {0, 255}
    return paste(values // 255, box, image_hw)


def float32_decode(mask):
    """Return the probabilities float32 [h, w]."""
    return np.frombuffer(base64.b64decode(mask["data"], validate=True), "<f4").reshape(mask["size"])


def cvat_decode(values, image_hw):
    """Return the mask uint8 [H, W] of CVAT's list: pixels of a crop, then its inclusive corners."""
    left, top, right, bottom = values[-4:]
    box = {"x": left, "y": top, "width": right - left + 1, "height": bottom - top + 1}
    return paste(np.array(values[:-4], np.uint8).reshape(box["height"], box["width"]), box, image_hw)


def paste(crop, box, image_hw):
    """Return [H, W] of zeros with the crop at its box."""
    canvas = np.zeros(image_hw, np.uint8)
    canvas[box["y"] : box["y"] + box["height"], box["x"] : box["x"] + box["width"]] = crop
    return canvas


def iou(one, other):
    """Return the share of what either has that both have."""
    one, other = np.asarray(one, bool), np.asarray(other, bool)
    return (one & other).sum() / max(1, (one | other).sum())
