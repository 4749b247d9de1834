"""COCO's compressed run-length encoding of a crop, over the whole image that it lies in.

It walks the image down its columns and counts pixels, zeros first. Its text writes every count, from the fourth on as
the difference to the one two before, in base 32 digits, lowest first, each as ``chr(48 + digit)`` with bit 5 set where
more follow. Source: cocoapi, common/maskApi.c, rleEncode and rleToString.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

Size = tuple[int, int]
Box = tuple[int, int, int, int]


def encode(bits: npt.NDArray[np.bool_], box: Box, image_hw: Size) -> str:
    """Return the text for ``bits`` bool [h, w] that lie at ``box`` (y1, x1, y2, x2) in an image of ``image_hw``."""
    return _compress(_runs(bits, box, image_hw))


def _runs(bits: npt.NDArray[np.bool_], box: Box, image_hw: Size) -> npt.NDArray[np.int64]:
    """Return the run lengths down the columns of the whole image, zeros first."""
    height, width = image_hw
    y1, x1 = box[:2]
    columns = np.zeros((bits.shape[1], bits.shape[0] + 2), np.int8)
    columns[:, 1:-1] = bits.T
    column, row = np.nonzero(np.diff(columns, axis=1))  # a start and an end in turn, as each column ends on zero
    edges = (column + x1) * height + row + y1
    joins = edges[1:-1:2] == edges[2::2]  # a run to the bottom that goes on at the top of the next column
    keep = np.ones(len(edges), np.bool_)
    keep[1:-1:2] = keep[2::2] = ~joins
    edges = edges[keep]
    stops = [] if len(edges) and edges[-1] == height * width else [height * width]
    return np.diff(np.concatenate([[0], edges, stops])).astype(np.int64)


def _compress(runs: npt.NDArray[np.int64]) -> str:
    values = runs.copy()
    values[3:] -= runs[1:-2]
    digits: list[npt.NDArray[Any]] = []
    written: list[npt.NDArray[np.bool_]] = []
    pending = np.ones(len(values), np.bool_)
    while pending.any():
        digit = values & 0x1F
        values >>= 5
        more = np.where(digit & 0x10, values != -1, values != 0) & pending
        digits.append((digit | (more << 5)) + 48)
        written.append(pending)
        pending = more
    return np.stack(digits, axis=1)[np.stack(written, axis=1)].astype(np.uint8).tobytes().decode("ascii")
