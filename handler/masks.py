"""A float mask and its box into a binary mask over the image, as COCO run-length encoding.

The mask is sampled bilinearly over its box, half-pixel centres, edge repeated, and cut at a threshold. Only the crop is
ever computed: the encoding over the whole image follows from the crop's runs.

COCO RLE walks the image down its columns and counts pixels, zeros first. Its compressed text writes every count, from
the fourth on as the difference to the one two before, in base 32 digits, lowest first, each as ``chr(48 + digit)`` with
bit 5 set where more follow. Source: cocoapi, common/maskApi.c, rleEncode and rleToString.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Size = tuple[int, int]
Box = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Crop:
    """A binary mask bool [y2-y1, x2-x1] and its place ``box`` (y1, x1, y2, x2, within the image)."""

    bits: npt.NDArray[np.bool_]
    box: Box

    @property
    def area(self) -> int:
        """Number of pixels set."""
        return int(np.count_nonzero(self.bits))


def unmold_mask(mask: npt.NDArray[np.float32], box: Box, clipped: Box, threshold: float) -> Crop:
    """Return where ``mask`` (float32 [mh, mw] over ``box``) is at least ``threshold``, within ``clipped``."""
    rows = _weights(mask.shape[0], (box[0], box[2]), (clipped[0], clipped[2]))
    columns = _weights(mask.shape[1], (box[1], box[3]), (clipped[1], clipped[3]))
    return Crop(rows @ mask @ columns.T >= threshold, clipped)


def _weights(count: int, span: tuple[int, int], part: tuple[int, int]) -> npt.NDArray[np.float32]:
    """Return float32 [part, count]: the weight of each of ``count`` samples over ``span`` in a pixel of ``part``."""
    pixels = np.arange(part[0], part[1])
    at = (pixels + 0.5 - span[0]) * (count / (span[1] - span[0])) - 0.5
    at = np.clip(at, 0, count - 1)
    low = np.minimum(at.astype(np.intp), max(count - 2, 0))
    share = (at - low).astype(np.float32)
    weights = np.zeros((len(pixels), count), np.float32)
    rows = np.arange(len(pixels))
    weights[rows, low] = 1 - share
    weights[rows, np.minimum(low + 1, count - 1)] += share
    return weights


def encode_rle(crop: Crop, image_hw: Size) -> str:
    """Return the crop as COCO compressed RLE over an image of ``image_hw``."""
    return _compress(_runs(crop, image_hw))


def _runs(crop: Crop, image_hw: Size) -> npt.NDArray[np.int64]:
    """Return the run lengths down the columns of the whole image, zeros first."""
    height, width = image_hw
    y1, x1 = crop.box[:2]
    columns = np.zeros((crop.bits.shape[1], crop.bits.shape[0] + 2), np.int8)
    columns[:, 1:-1] = crop.bits.T
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
