"""COCO's compressed run-length encoding (RLE) of masks over the whole image.

RLE goes down the columns of the image and counts equal pixels, zeros first. The text holds these counts. From the
fourth on, a count is replaced by its difference from the count two places earlier. Each number is written in 5-bit
digits, lowest first, as ``chr(48 + digit)``; bit 5 of a digit is set if more follow. Source: cocoapi,
common/maskApi.c, rleEncode and rleToString.

Example: the mask of 2 x 3 pixels::

    0 1 0
    0 1 1

has the columns 00, 11, 01, so the counts are 2, 2, 1, 1. The fourth becomes 1 - 2 = -1, whose lowest 5 bits are 31:
``chr(48 + 31)`` is O. The text is ``221O``.
"""

import numpy as np
import numpy.typing as npt

from handler.masks.spans import Spans

Integers = npt.NDArray[np.int64]


def encode(spans: Spans) -> list[str]:
    """Return the RLE text of each mask."""
    if len(spans.bounds) == 1:
        return []
    runs, starts = _run_lengths(spans)
    text, ends = _to_text(runs, starts)
    return [text[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True)]


def _run_lengths(spans: Spans) -> tuple[Integers, Integers]:
    """Return the run lengths of all masks int64 [r], and the index int64 [n] at which each mask's runs start."""
    total = spans.image_hw[0] * spans.image_hw[1]
    count = len(spans.bounds) - 1
    index = np.arange(count)
    mask = np.repeat(index, np.diff(spans.bounds))
    marks = np.zeros(len(spans.edges) + 2 * count, np.int64)  # per mask: 0, its edges, the image's end
    marks[np.arange(len(spans.edges)) + 2 * mask + 1] = spans.edges
    closing = spans.bounds[1:] + 2 * index + 1
    marks[closing] = total
    runs = np.diff(marks)
    keep = np.ones(len(runs), np.bool_)
    keep[closing[:-1]] = False  # no run leads from one mask to the next
    empty = np.diff(spans.bounds) == 0
    keep[closing - 1] = empty | (runs[closing - 1] > 0)  # no run of zeros follows a span that reaches the image's end
    starts = np.concatenate([[0], np.cumsum(keep)])[spans.bounds[:-1] + 2 * index]
    return runs[keep], starts


def _to_text(runs: Integers, starts: Integers) -> tuple[str, list[int]]:
    """Return the texts of all masks as one, and the index at which each ends."""
    place_in_mask = np.arange(len(runs)) - np.repeat(starts, np.diff(starts, append=len(runs)))
    later = np.flatnonzero(place_in_mask >= 3)
    values = runs.copy()
    values[later] -= runs.take(later - 2)
    beyond = values ^ values >> 63  # one digit holds -16..15; each further digit, 32 times as many
    sizes, reach = np.ones(len(values), np.int64), 16
    while (more := beyond >= reach).any():
        sizes += more
        reach *= 32
    ends = np.cumsum(sizes)
    text = np.empty(ends[-1], np.uint8)
    at = ends - sizes
    while len(at):
        more = beyond >= 16
        text[at] = (values & 31 | more << 5) + 48
        longer = np.flatnonzero(more)
        values, beyond, at = values.take(longer) >> 5, beyond.take(longer) >> 5, at.take(longer) + 1
    last = np.append(starts[1:], len(runs)) - 1
    return text.tobytes().decode("ascii"), ends[last].tolist()
