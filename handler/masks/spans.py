"""Masks as spans of pixels down the columns of the image, of all instances at once.

A mask is sampled bilinearly over its box, half-pixel centres, edge repeated. Between two samples of a column that is a
straight line, so where it crosses the threshold tells which pixels are inside: a column costs as much as the mask has
rows, 28 for instance, however many pixels it crosses, and nothing of the size of the box is ever made.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from handler.types import Box, Boxes, Size

Positions = npt.NDArray[np.int64]
COLUMNS = 1 << 13  # looked at together: what 28 samples of each take stays in the processor's cache
TIE = 1e-6  # a probability that rounding leaves so far below the threshold is at it: plateaus would get holes


@dataclass(frozen=True, slots=True)
class Spans:
    """The pixels of n masks in an image of ``image_hw``.

    ``edges`` int64: where a span starts and where it ends, exclusive, in turn, as x * height + y, ascending, no span
    empty, none adjoining another; of mask i those from ``bounds[i]`` to ``bounds[i + 1]``; ``bounds`` int64 [n + 1].
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
    """Return the pixels that are at least at ``threshold`` of masks [n, mh, mw], each over its box in ``boxes`` [n, 4].

    Boxes are y1, x1, y2, x2 in image pixels, y2 and x2 exclusive; ``clipped`` [n, 4] is the part of each that lies
    within the image, not empty.
    """
    apart = image_hw[0] * image_hw[1] + 1  # added for each mask: positions of all then ascend
    columns = np.ascontiguousarray(probabilities.transpose(0, 2, 1))
    last = np.cumsum(clipped[:, 3] - clipped[:, 1])
    first = last - (clipped[:, 3] - clipped[:, 1])
    total = int(last[-1]) if len(last) else 0
    parts = [np.zeros(0, np.int64)]
    for start in range(0, total, COLUMNS):
        stop = min(start + COLUMNS, total)
        counts = np.minimum(last, stop) - np.maximum(first, start)
        owner = np.repeat(np.arange(len(last)), np.maximum(counts, 0))
        x = np.arange(start, stop) - first[owner] + clipped[owner, 1]
        levels = _across(columns, owner, x, boxes)
        column, y = _crossings(levels, np.float32(threshold - TIE), boxes[owner], clipped[owner])
        parts.append(_lone((owner * apart + x * image_hw[0])[column] + y))
    edges = _lone(np.concatenate(parts))
    bounds = np.searchsorted(edges, np.arange(len(boxes) + 1) * apart)
    return Spans(edges - np.repeat(np.arange(len(boxes)) * apart, np.diff(bounds)), bounds, image_hw)


def _across(columns: npt.NDArray[Any], owner: Positions, x: Positions, boxes: Boxes) -> npt.NDArray[np.float32]:
    """Return levels float32 [c, mh]: each mask's own rows where pixel column ``x`` crosses it."""
    low, high, weight = interpolation(x + 0.5, boxes[owner, 1], boxes[owner, 3], columns.shape[1])
    before = columns[owner, low]
    levels: npt.NDArray[np.float32] = columns[owner, high]
    levels -= before
    levels *= weight[:, None]
    levels += before
    return levels


def interpolation(
    at: npt.NDArray[Any], start: Any, end: Any, samples: int
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], npt.NDArray[np.float32]]:
    """Return the two samples beside each position and the weight float32 of the second: linear, the edge repeated.

    ``samples`` cells of equal size lie between ``start`` and ``end``; a sample is the value at its cell's centre.
    """
    place = np.clip((at - start) * (samples / (end - start)) - 0.5, 0, samples - 1)
    low = np.minimum(place.astype(np.intp), max(samples - 2, 0))
    return low, np.minimum(low + 1, samples - 1), (place - low).astype(np.float32)


def _crossings(
    levels: npt.NDArray[np.float32], threshold: np.float32, boxes: Boxes, clipped: Boxes
) -> tuple[Positions, Positions]:
    """Return the column, and the first pixel row beyond, of every crossing of the threshold in levels [c, mh].

    What is inside at the ends of the samples is so until the box is cut off.
    """
    samples = levels.shape[1]
    inside = np.zeros((len(levels), samples + 2), np.bool_)
    np.greater_equal(levels, threshold, out=inside[:, 1:-1])
    column, gap = np.divmod(np.flatnonzero(inside[:, 1:] != inside[:, :-1]), samples + 1)
    before, after = (levels[column, np.clip(sample, 0, samples - 1)].astype(np.float64) for sample in (gap - 1, gap))
    share = (threshold - before) / np.where(before == after, 1.0, after - before)
    at = np.where(gap == 0, -np.inf, np.where(gap == samples, np.inf, gap - 1 + share))
    top, bottom = boxes[column, 0], boxes[column, 2]
    y = np.ceil(top + (at + 0.5) * ((bottom - top) / samples) - 0.5)
    return column, np.clip(y, clipped[column, 0], clipped[column, 2]).astype(np.int64)


def _lone(positions: Positions) -> Positions:
    """Return what occurs an odd number of times in ascending positions: an end and a start at one place cancel out.

    So do a start and an end, where a crossing there and back falls between two pixels.
    """
    first = np.flatnonzero(np.diff(positions, prepend=-1))
    lone: Positions = positions[first[np.diff(first, append=len(positions)) % 2 == 1]]
    return lone


def fill(edges: Positions, clipped: Box, image_height: int) -> npt.NDArray[np.bool_]:
    """Return bool [h, w] over the box ``clipped`` (y1, x1, y2, x2), True within the spans of one mask."""
    top, left, bottom, right = clipped
    height, width = bottom - top, right - left
    x, y = np.divmod(edges[::2], image_height)
    starts = (x - left) * height + y - top
    turns = np.zeros(width * height + 1, np.int8)
    turns[starts] = 1
    turns[starts + edges[1::2] - edges[::2]] -= 1
    inside = np.cumsum(turns[:-1], dtype=np.int8, out=turns[:-1])
    return inside.view(np.bool_).reshape(width, height).T
