"""A field of levels -> outlines: marching squares by contourpy, then remove the points that change nothing.

The outline of ``trace`` follows the zero crossings of the bilinear field, so a pixel's centre is inside if its level is
not negative. Where the crop cuts the object, the outline follows the edge of the crop.

The outline of ``border`` goes through the centres of the outermost pixels instead, as OpenCV's ``findContours`` draws
it and ``fillPoly`` fills it: the pixel that covers i to i + 1 has the coordinate i.
"""

import itertools
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from contourpy import FillType, contour_generator

from handler.types import Box

Points = npt.NDArray[np.float64]
TOLERANCE_PX = 0.05  # a point this close to the line between its neighbours is removed
MIN_AREA_PX2 = 0.01  # a smaller ring comes from rounding
BARELY_INSIDE = 1e-6  # replaces a level of zero, which counts as inside
TOUCHING = 0.4  # between 0 outside and 1 inside: pixels that touch at a corner belong together, as in findContours
MIN_POINTS = 3  # of a polygon; a border of one or two pixels repeats its points


def trace(levels: npt.NDArray[Any], box: Box) -> list[Points]:
    """Return rings float64 [n, 2] of x, y, image pixels, around the levels that are not negative.

    ``levels``: float [h, w], at the centres of h x w equal cells over ``box`` (y1, x1, y2, x2, pixels). An outer ring
    has a positive :func:`area`. Its holes follow it; their area is negative. No ring repeats its first point.
    """
    y1, x1, y2, x2 = box
    step = np.array([(x2 - x1) / levels.shape[1], (y2 - y1) / levels.shape[0]])
    contours = contour_generator(z=_close_at_border(levels), fill_type=FillType.OuterOffset)
    parts, offsets = cast(tuple[list[Points], list[Any]], contours.filled(0.0, np.inf))
    rings = []
    for points, ends in zip(parts, offsets, strict=True):
        placed = (points - 0.5) * step + (x1, y1)  # index 1 is the centre of the first cell
        pieces = (placed[start : end - 1] for start, end in itertools.pairwise(ends))
        ring, *holes = (simplify(piece) for piece in pieces)
        if area(ring) >= MIN_AREA_PX2:
            rings += [ring, *(hole for hole in holes if -area(hole) >= MIN_AREA_PX2)]
    return rings


def border(levels: npt.NDArray[Any], box: Box) -> npt.NDArray[np.int64] | None:
    """Return the ring int64 [n, 2] of x, y through the outermost pixels of the largest part, None if there is no part.

    ``levels``, ``box``: as for :func:`trace`. Holes are not part of the ring. It has at least MIN_POINTS points.
    """
    inside = np.pad(levels >= 0, 1)
    contours = contour_generator(z=inside.astype(np.float64), fill_type=FillType.OuterOffset)
    parts, offsets = cast(tuple[list[Points], list[Any]], contours.filled(TOUCHING, np.inf))
    if not parts:
        return None
    outer = max((points[: ends[1] - 1] for points, ends in zip(parts, offsets, strict=True)), key=area)
    cells = _inner_cells(outer, inside)
    steps = np.diff(cells, axis=0, append=cells[:1])
    cells, steps = cells[steps.any(axis=1)], steps[steps.any(axis=1)]
    corners = cells[(steps != np.roll(steps, 1, axis=0)).any(axis=1)] if len(cells) else _inner_cells(outer[:1], inside)
    y1, x1, y2, x2 = box
    step = np.array([(x2 - x1) / levels.shape[1], (y2 - y1) / levels.shape[0]])
    ring = np.rint((corners - 0.5) * step + (x1, y1) - 0.5).astype(np.int64)  # index 1 is the first cell
    return np.resize(ring, (max(MIN_POINTS, len(ring)), 2))


def _inner_cells(outline: Points, inside: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Return x, y [n, 2] of the cell that is inside, for points between two neighbours of which one is inside."""
    low, high = np.floor(outline).astype(np.int64), np.ceil(outline).astype(np.int64)
    return np.where(inside[low[:, 1], low[:, 0], None], low, high)


def _close_at_border(levels: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Return float64 [h + 2, w + 2]: the levels in a border that ends the inside half a cell behind the last centre."""
    inside = levels >= 0
    signed = np.where(inside, np.maximum(levels, BARELY_INSIDE), np.minimum(levels, -BARELY_INSIDE))
    framed = np.pad(signed.astype(np.float64), 1, mode="edge")
    framed[[0, -1], :] = -np.abs(framed[[0, -1], :])
    framed[:, [0, -1]] = -np.abs(framed[:, [0, -1]])
    return framed


def simplify(ring: Points, tolerance_px: float = TOLERANCE_PX) -> Points:
    """Return the closed ring [n, 2] without points within ``tolerance_px`` of the line between their neighbours.

    Each pass looks at every second point, so it never removes two neighbours at once. It ends if two passes in a row
    remove nothing.
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
    """Return the area of a ring [n, 2] in square pixels, negative if it runs anticlockwise on the screen."""
    x, y = ring[:, 0], ring[:, 1]
    return float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2
