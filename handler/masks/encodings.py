"""Mask probabilities and boxes -> masks in the encodings that clients ask for.

:mod:`handler.masks.spans` finds the pixels. Masks are cropped one at a time, so memory holds at most one crop.
"""

import base64
import io
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import UNSET
from PIL import Image

from handler.masks import rle, schemas
from handler.masks.spans import TIE, Spans, fill, find_spans, interpolation
from handler.options import MaskEncoding
from handler.types import Box, Boxes, Size

POINT_DIGITS = 2  # decimals of outline points, pixels
OUTLINE_SAMPLES = 1024  # at most, per side: an outline takes no more memory than the model's frame
Rings = list[npt.NDArray[np.float64]]


class InstanceMask(msgspec.Struct, frozen=True):
    """One mask: probabilities float32 [mh, mw] over ``box``; ``bits`` bool [h, w] over ``clipped``, True inside."""

    probabilities: npt.NDArray[np.float32]
    box: Box
    clipped: Box
    threshold: float
    bits: npt.NDArray[np.bool_]


class Masks(msgspec.Struct, frozen=True):
    """The masks of n objects: probabilities float32 [n, mh, mw] over ``boxes`` [n, 4], and their ``spans``.

    ``clipped`` [n, 4]: the part of each box within the image. ``threshold``: the least probability inside a mask.
    """

    probabilities: npt.NDArray[np.float32]
    boxes: Boxes
    clipped: Boxes
    threshold: float
    spans: Spans

    def __iter__(self) -> Iterator[InstanceMask]:
        """Yield the masks one at a time, each with its crop."""
        for index, (probabilities, *boxes) in enumerate(zip(self.probabilities, self.boxes, self.clipped, strict=True)):
            box, clipped = (cast(Box, tuple(map(int, box))) for box in boxes)
            bits = fill(self.spans.of(index), clipped, self.spans.image_hw[0])
            yield InstanceMask(probabilities, box, clipped, self.threshold, bits)


Encoder = Callable[[Masks], Sequence[Any]]  # -> one value per mask


def unmold_masks(
    probabilities: npt.NDArray[np.float32], boxes: Boxes, clipped: Boxes, image_hw: Size, threshold: float
) -> Masks:
    """Return Masks from probabilities float32 [n, mh, mw] over ``boxes`` [n, 4], image pixels."""
    spans = find_spans(probabilities, boxes, clipped, image_hw, threshold)
    return Masks(probabilities, boxes, clipped, threshold, spans)


def encode_none(masks: Masks) -> list[None]:
    """Return None for each mask."""
    return [None] * len(masks.boxes)


def encode_rle(masks: Masks) -> list[schemas.RleMask]:
    """Return each mask as RLE over the whole image."""
    return [schemas.RleMask(masks.spans.image_hw, counts) for counts in rle.encode(masks.spans)]


def encode_polygons(masks: Masks) -> list[schemas.PolygonMask]:
    """Return the outlines of each mask: all parts and holes."""
    return [schemas.PolygonMask([flatten(ring) for ring in outline(mask)]) for mask in masks]


def encode_png(masks: Masks) -> list[schemas.PngMask]:
    """Return the crop of each mask as an 8-bit grey PNG of 0 and 255."""
    return [schemas.PngMask(_encode_png_crop(mask.bits)) for mask in masks]


def encode_float32(masks: Masks) -> list[schemas.Float32Mask]:
    """Return the probabilities of each mask."""
    return [_encode_probabilities(mask) for mask in masks]


ENCODERS: dict[MaskEncoding, Encoder] = {
    "none": encode_none,
    "rle": encode_rle,
    "polygon": encode_polygons,
    "png": encode_png,
    "float32": encode_float32,
}


def _encode_png_crop(bits: npt.NDArray[np.bool_]) -> str:
    body = io.BytesIO()
    Image.fromarray(bits.view(np.uint8) * np.uint8(255)).save(body, "PNG")
    return base64.b64encode(body.getvalue()).decode("ascii")


def _encode_probabilities(mask: InstanceMask) -> schemas.Float32Mask:
    height, width = mask.probabilities.shape
    data = base64.b64encode(mask.probabilities.astype("<f4", copy=False).tobytes()).decode("ascii")
    y1, x1, y2, x2 = mask.box
    beyond = schemas.Box(x=x1, y=y1, width=x2 - x1, height=y2 - y1) if mask.box != mask.clipped else UNSET
    return schemas.Float32Mask(size=(height, width), data=data, box=beyond)


def outline(mask: InstanceMask) -> Rings:
    """Return the outline as rings [n, 2] of x, y, image pixels; see :func:`handler.masks.polygons.trace`."""
    from handler.masks.polygons import trace  # noqa: PLC0415 - contourpy would slow each start, and few requests need it

    return trace(_levels(mask), mask.clipped)


def border(mask: InstanceMask) -> npt.NDArray[np.int64] | None:
    """Return the ring through the outermost pixels of the largest part; see :func:`handler.masks.polygons.border`."""
    from handler.masks import polygons  # noqa: PLC0415 - as above

    return polygons.border(_levels(mask), mask.clipped)


def _levels(mask: InstanceMask) -> npt.NDArray[Any]:
    """Return probability - threshold at the centres of cells over ``mask.clipped``; it is not negative inside."""
    top, left, bottom, right = mask.clipped
    rows = _sampling_matrix(mask.probabilities.shape[0], (mask.box[0], mask.box[2]), (top, bottom))
    columns = _sampling_matrix(mask.probabilities.shape[1], (mask.box[1], mask.box[3]), (left, right))
    levels: npt.NDArray[Any] = rows @ mask.probabilities @ columns.T - (mask.threshold - TIE)
    return levels


def _sampling_matrix(samples: int, span: tuple[int, int], part: tuple[int, int]) -> npt.NDArray[np.float32]:
    """Return weights float32 [cells, samples] that sample a mask over ``span`` at the centres of cells over ``part``.

    A cell is one pixel, or larger if there would be more than OUTLINE_SAMPLES cells.
    """
    cells = min(part[1] - part[0], OUTLINE_SAMPLES)
    centres = part[0] + (np.arange(cells) + 0.5) * ((part[1] - part[0]) / cells)
    low, high, weight = interpolation(centres, span[0], span[1], samples)
    weights = np.zeros((cells, samples), np.float32)
    weights[np.arange(cells), low] = 1 - weight
    weights[np.arange(cells), high] += weight
    return weights


def flatten(ring: npt.NDArray[np.float64]) -> list[float]:
    """Return a ring [n, 2] as x, y, x, y, ..., rounded to a hundredth of a pixel."""
    points: list[float] = np.round(ring, POINT_DIGITS).ravel().tolist()
    return points


def largest_ring(rings: Rings) -> list[float]:
    """Return the largest ring as x, y, x, y, ..., or [] if there is none."""
    from handler.masks.polygons import area  # noqa: PLC0415 - as above

    return flatten(max(rings, key=area)) if rings else []


def has_holes(rings: Rings) -> bool:
    """Return True if a ring is a hole, which has a negative area."""
    from handler.masks.polygons import area  # noqa: PLC0415 - as above

    return any(area(ring) < 0 for ring in rings)
