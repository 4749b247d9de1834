"""Masks as spans of pixels down the columns of the image, for all instances at once.

A mask is a small grid of probabilities over a box. It is enlarged to the box bilinearly, with pixel centres at
half-integers and the edge repeated. A pixel is inside if the value at its centre reaches the threshold.

*Strategy*. Do not paint the box. Down one pixel column, the enlarged mask is a line with a bend at each mask row, so
compute where that line crosses the threshold. The pixels between two crossings form a span. A column costs as much as
the mask has rows, for example 28, however tall the box is.

Example: a mask of 4 rows and 1 column over a box of 8 x 1 pixels, threshold 0.5. Each row covers 2 pixels::

    y of the sample    1    3    5    7
    probability      0.1  0.6  0.9  0.0

The line rises through 0.5 at y = 1 + 2 * 0.4 / 0.5 = 2.6 and falls through it at y = 5 + 2 * 0.4 / 0.9 = 5.9. Pixels 3,
4 and 5 have their centres (3.5, 4.5, 5.5) in between, so the edges of the span are 3 and 6.
"""

from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from handler.types import Box, Boxes, Size

Positions = npt.NDArray[np.int64]
LEVELS = 1 << 19  # samples of pixel columns that are processed at once: 2 MB as float32
TIE = 1e-6  # values this close below the threshold count as inside, or rounding would make holes in flat areas


class Spans(msgspec.Struct, frozen=True):
    """The pixels of n masks in an image of ``image_hw``.

    ``edges`` int64 [m]: start and exclusive end of each span, alternating. A position is x * height + y. Within a mask
    they ascend; no span is empty, and no two touch. ``bounds`` int64 [n + 1]: mask i has the edges from ``bounds[i]``
    to ``bounds[i + 1]``.
    """

    edges: Positions
    bounds: npt.NDArray[np.int64]
    image_hw: Size

    def of(self, index: int) -> Positions:
        """Return the edges of one mask."""
        return self.edges[self.bounds[index] : self.bounds[index + 1]]

    def areas(self) -> list[int]:
        """Return the number of pixels of each mask."""
        pixels = np.concatenate([[0], np.cumsum(self.edges[1::2] - self.edges[::2])])
        areas: list[int] = np.diff(pixels[self.bounds // 2]).tolist()
        return areas


def find_spans(
    probabilities: npt.NDArray[np.float32], boxes: Boxes, clipped: Boxes, image_hw: Size, threshold: float
) -> Spans:
    """Return the pixels whose probability is at least ``threshold``.

    ``probabilities``: float32 [n, mh, mw], each over its box in ``boxes`` [n, 4] (y1, x1, y2, x2, image pixels).
    ``clipped`` [n, 4]: the part of each box within the image, not empty.
    """
    stride = image_hw[0] * image_hw[1] + 1  # offset between masks, which makes the positions of all masks ascend
    columns = np.ascontiguousarray(probabilities.transpose(0, 2, 1))
    last = np.cumsum(clipped[:, 3] - clipped[:, 1])
    first = last - (clipped[:, 3] - clipped[:, 1])
    total = int(last[-1]) if len(last) else 0
    parts = [np.zeros(0, np.int64)]
    step = max(1, LEVELS // max(1, columns.shape[2]))
    for start in range(0, total, step):
        stop = min(start + step, total)
        counts = np.minimum(last, stop) - np.maximum(first, start)
        owner = np.repeat(np.arange(len(last)), np.maximum(counts, 0))
        x = np.arange(start, stop) + (clipped[:, 1] - first).take(owner)
        levels = _sample_columns(columns, owner, x, boxes)
        column, y = _crossings(levels, np.float32(threshold - TIE), owner, boxes, clipped)
        parts.append(_cancel_pairs((owner * stride + x * image_hw[0]).take(column) + y))
    edges = _cancel_pairs(np.concatenate(parts)) if len(parts) > 2 else parts[-1]
    bounds = np.searchsorted(edges, np.arange(len(boxes) + 1) * stride)
    return Spans(edges - np.repeat(np.arange(len(boxes)) * stride, np.diff(bounds)), bounds, image_hw)


def _sample_columns(columns: npt.NDArray[Any], owner: Positions, x: Positions, boxes: Boxes) -> npt.NDArray[np.float32]:
    """Return levels float32 [c, mh]: the rows of mask ``owner`` [c] at the centre of pixel column ``x`` [c]."""
    count, samples, height = columns.shape
    low, high, weight = interpolation(x + 0.5, boxes[:, 1].take(owner), boxes[:, 3].take(owner), samples)
    flat, first = columns.reshape(count * samples, height), owner * samples
    before = flat.take(first + low, axis=0)  # five times as fast as columns[owner, low]
    levels: npt.NDArray[np.float32] = flat.take(first + high, axis=0)
    levels -= before
    levels *= weight[:, None]
    levels += before
    return levels


def interpolation(
    at: npt.NDArray[Any], start: Any, end: Any, samples: int
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], npt.NDArray[np.float32]]:
    """Return the indices of the two samples around each position, and the weight float32 of the second.

    ``samples`` cells of equal size lie between ``start`` and ``end``. A sample is the value at the centre of its cell.
    Outside the first and the last centre, their values continue.
    """
    place = np.clip((at - start) * (samples / (end - start)) - 0.5, 0, samples - 1)
    low = np.minimum(place.astype(np.intp), max(samples - 2, 0))
    return low, np.minimum(low + 1, samples - 1), (place - low).astype(np.float32)


def _crossings(
    levels: npt.NDArray[np.float32], threshold: np.float32, owner: Positions, boxes: Boxes, clipped: Boxes
) -> tuple[Positions, Positions]:
    """Return, for each crossing of the threshold in levels [c, mh], its column and the first pixel row behind it.

    ``owner`` [c]: the mask of each column. ``boxes``, ``clipped`` [n, 4]: of each mask, in image pixels.

    A column that is inside at its first or last sample also crosses there at the edge of ``clipped``.
    """
    samples = levels.shape[1]
    inside = np.zeros(len(levels) * (samples + 1) + 1, np.bool_)  # False, and then each column and False
    np.greater_equal(levels, threshold, out=inside[1:].reshape(-1, samples + 1)[:, :-1])
    found = np.flatnonzero(inside[1:] != inside[:-1])
    column = found // (samples + 1)
    gap, mask = found - column * (samples + 1), owner.take(column)
    before, after = (levels.take(found - column - back, mode="clip").astype(np.float64) for back in (1, 0))
    rise = after - before
    rise[rise == 0] = 1.0  # at the edges alone, where it does not count
    top, bottom = boxes[:, 0].take(mask), boxes[:, 2].take(mask)
    first, end = clipped[:, 0].take(mask), clipped[:, 2].take(mask)
    at = gap - 1 + (threshold - before) / rise  # in samples, counted from the centre of the first
    y = np.ceil(top + (at + 0.5) * ((bottom - top) / samples) - 0.5)
    y = np.minimum(np.maximum(y, first), end).astype(np.int64)
    return column, np.where(gap == 0, first, np.where(gap == samples, end, y))


def _cancel_pairs(positions: Positions) -> Positions:
    """Return the positions that occur an odd number of times in ascending ``positions``.

    An end and a start at one position cancel out: the spans touch. So do a start and an end: the span is empty.
    """
    last = np.append(positions[1:] != positions[:-1], True)  # of those that are equal
    if last.all():
        return positions
    ends = np.flatnonzero(last)
    single: Positions = positions.take(ends.take(np.flatnonzero(np.diff(ends, prepend=-1) & 1)))
    return single


def fill(edges: Positions, clipped: Box, image_height: int) -> npt.NDArray[np.bool_]:
    """Return one mask as bool [h, w] over the box ``clipped`` (y1, x1, y2, x2), True within its spans."""
    top, left, bottom, right = clipped
    height, width = bottom - top, right - left
    x, y = np.divmod(edges[::2], image_height)
    starts = (x - left) * height + y - top
    changes = np.zeros(width * height + 1, np.int8)
    changes[starts] = 1
    changes[starts + edges[1::2] - edges[::2]] -= 1
    inside = np.cumsum(changes[:-1], dtype=np.int8, out=changes[:-1])
    return inside.view(np.bool_).reshape(width, height).T
