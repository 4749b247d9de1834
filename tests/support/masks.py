"""What a mask means, written out: the one oracle for masks over boxes. It shares no code with the function."""

import numpy as np
from scipy.ndimage import map_coordinates


def sample(mask, box):
    """Return the mask over its whole box y1, x1, y2, x2 as float64: bilinear at half-pixel centres, edge repeated."""
    y1, x1, y2, x2 = box
    grid = np.meshgrid(
        (np.arange(y2 - y1) + 0.5) * mask.shape[0] / (y2 - y1) - 0.5,
        (np.arange(x2 - x1) + 0.5) * mask.shape[1] / (x2 - x1) - 0.5,
        indexing="ij",
    )
    return map_coordinates(mask.astype(float), grid, order=1, mode="nearest")


def cut(whole, box, clipped):
    """Return the part of an array over ``box`` that lies over ``clipped``, which is within the box."""
    top, left = box[:2]
    return whole[clipped[0] - top : clipped[2] - top, clipped[1] - left : clipped[3] - left]


def paint(mask, box, image_hw):
    """Return [H, W] of the mask over its box, which may reach over the image's edges; zero around it."""
    canvas = np.zeros(image_hw)
    clipped = [*np.maximum(box[:2], 0), *np.minimum(box[2:], image_hw)]
    canvas[clipped[0] : clipped[2], clipped[1] : clipped[3]] = cut(sample(mask, box), box, clipped)
    return canvas
