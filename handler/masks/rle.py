"""COCO's compressed run-length encoding of masks over the whole image.

It walks the image down its columns and counts pixels, zeros first. Its text writes every count, from the fourth on as
the difference to the one two before, in base 32 digits, lowest first, each as ``chr(48 + digit)`` with bit 5 set where
more follow. Source: cocoapi, common/maskApi.c, rleEncode and rleToString.
"""

import numpy as np
import numpy.typing as npt

from handler.masks.spans import Spans

Integers = npt.NDArray[np.int64]


def encode(spans: Spans) -> list[str]:
    """Return the text of each mask."""
    if len(spans.bounds) == 1:
        return []
    runs, starts = _runs(spans)
    text, ends = _compress(runs, starts)
    return [text[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True)]


def _runs(spans: Spans) -> tuple[Integers, Integers]:
    """Return the run lengths of all masks, and where those of each start."""
    total = spans.image_hw[0] * spans.image_hw[1]
    count = len(spans.bounds) - 1
    places = np.arange(count)
    mask = np.repeat(places, np.diff(spans.bounds))
    marks = np.zeros(len(spans.edges) + 2 * count, np.int64)  # each mask's edges between 0 and the image's end
    marks[np.arange(len(spans.edges)) + 2 * mask + 1] = spans.edges
    closing = spans.bounds[1:] + 2 * places + 1
    marks[closing] = total
    runs = np.diff(marks)
    keep = np.ones(len(runs), np.bool_)
    keep[closing[:-1]] = False  # from one mask to the next
    empty = np.diff(spans.bounds) == 0
    keep[closing - 1] = empty | (runs[closing - 1] > 0)  # nothing follows a span to the image's end
    starts = np.concatenate([[0], np.cumsum(keep)])[spans.bounds[:-1] + 2 * places]
    return runs[keep], starts


def _compress(runs: Integers, starts: Integers) -> tuple[str, list[int]]:
    """Return the texts in one, and where each ends."""
    order = np.arange(len(runs)) - np.repeat(starts, np.diff(starts, append=len(runs)))
    values = runs.copy()
    later = np.flatnonzero(order >= 3)
    values[later] -= runs[later - 2]
    sizes, reach = np.ones(len(values), np.int64), 16  # one digit holds -16..15, and each further one 32 times that
    while (longer := (values < -reach) | (values >= reach)).any():
        sizes += longer
        reach *= 32
    ends = np.cumsum(sizes)
    text = np.empty(ends[-1], np.uint8)
    for place in range(sizes.max()):
        chosen = np.flatnonzero(sizes > place)
        more = (sizes[chosen] > place + 1) << 5
        text[ends[chosen] - sizes[chosen] + place] = ((values[chosen] >> 5 * place & 31) | more) + 48
    last = np.append(starts[1:], len(runs)) - 1
    return text.tobytes().decode("ascii"), ends[last].tolist()
