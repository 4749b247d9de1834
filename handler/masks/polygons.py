"""A field of probabilities into outlines: marching squares (contourpy), then without the points that change nothing.

The outline runs where the bilinear field crosses zero, so that a pixel's centre is inside exactly where its value is
not negative, and along the crop's own edge where the object is cut there.
"""

import itertools
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from contourpy import FillType, contour_generator

from handler.types import Box

Points = npt.NDArray[np.float64]
TOLERANCE_PX = 0.05  # a point that lies so close to the line between its neighbours is left out
SMALLEST_PX2 = 0.01  # what encloses less is no part of an object but the trace of rounding
CLOSE_TO_ZERO = 1e-6  # a value of zero is inside, but only just


def trace(levels: npt.NDArray[Any], box: Box) -> list[Points]:
    """Return the rings [n, 2] of x, y around what is not negative in ``levels``, floats [h, w].

    The levels are taken at the centres of h x w equal cells over ``box`` (y1, x1, y2, x2, pixels). Outer rings have a
    positive :func:`area`, each is followed by its holes, whose area is negative. No ring repeats its first point.
    """
    y1, x1, y2, x2 = box
    step = np.array([(x2 - x1) / levels.shape[1], (y2 - y1) / levels.shape[0]])
    contours = contour_generator(z=_framed(levels), fill_type=FillType.OuterOffset)
    parts, offsets = cast(tuple[list[Points], list[Any]], contours.filled(0.0, np.inf))
    rings = []
    for points, ends in zip(parts, offsets, strict=True):
        placed = (points - 0.5) * step + (x1, y1)  # index 1 is the centre of the first cell
        pieces = (placed[start : end - 1] for start, end in itertools.pairwise(ends))
        ring, *holes = (simplify(piece) for piece in pieces)
        if area(ring) >= SMALLEST_PX2:
            rings += [ring, *(hole for hole in holes if -area(hole) >= SMALLEST_PX2)]
    return rings


def _framed(levels: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Return float64 [h+2, w+2]: a border around that makes what is inside end half a cell beyond the last centre."""
    inside = levels >= 0
    signed = np.where(inside, np.maximum(levels, CLOSE_TO_ZERO), np.minimum(levels, -CLOSE_TO_ZERO))
    framed = np.pad(signed.astype(np.float64), 1, mode="edge")
    framed[[0, -1], :] = -np.abs(framed[[0, -1], :])
    framed[:, [0, -1]] = -np.abs(framed[:, [0, -1]])
    return framed


def simplify(ring: Points, tolerance_px: float = TOLERANCE_PX) -> Points:
    """Return the closed ring [n, 2] without points within ``tolerance_px`` of the line between their neighbours.

    Every second point is looked at in turn, so that no two neighbours go at once, until none is left to go.
    """
    parity, idle = 0, 0
    while idle < 2 and len(ring) > 4:
        before, after = np.roll(ring, 1, axis=0), np.roll(ring, -1, axis=0)
        chord, offset = after - before, ring - before
        length = np.hypot(chord[:, 0], chord[:, 1])
        distance = np.abs(chord[:, 0] * offset[:, 1] - chord[:, 1] * offset[:, 0])
        drop = distance <= tolerance_px * length
        drop[parity::2] = False
        drop[-1] &= len(ring) % 2 == 0  # the last and the first are neighbours too
        idle = 0 if drop.any() else idle + 1
        parity = 1 - parity
        ring = ring[~drop]
    return ring


def area(ring: Points) -> float:
    """Return the area of a ring [n, 2] in square pixels, negative where it runs the other way round."""
    x, y = ring[:, 0], ring[:, 1]
    return float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2
