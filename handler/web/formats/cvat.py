"""``format=cvat``: the list that CVAT's detector functions return."""

from dataclasses import dataclass
from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta

from handler.masks.encodings import Encoder, InstanceMask, Masks, encode_none, largest, outline
from handler.masks.schemas import Ring, Value
from handler.options import MaskEncoding, Options
from handler.pipeline import Instance, Result
from handler.web.formats import name, score


class CvatShape(Value, frozen=True, tag_field="type"):
    """One entry of ``format=cvat``; its subclasses are CVAT's shape types."""

    confidence: str
    label: str


class CvatMask(CvatShape, frozen=True, tag="mask"):
    """``mask``: 0 and 1 for the pixels of the box, row-major, then its xtl, ytl, xbr, ybr, which are inclusive."""

    points: Ring
    mask: Annotated[msgspec.Raw, Meta(extra_json_schema={"type": "array", "items": {"type": "integer"}})]


class CvatPolygon(CvatShape, frozen=True, tag="polygon"):
    """``points``: the outline of the largest part."""

    points: Ring


class CvatRectangle(CvatShape, frozen=True, tag="rectangle"):
    """``points``: xtl, ytl, xbr, ybr of the box."""

    points: Ring


ANSWER = list[CvatMask | CvatPolygon | CvatRectangle]


@dataclass(frozen=True, slots=True)
class _Drawn:
    """The outline of the largest part, x, y, x, y, ...; ``pixels`` as JSON if asked for."""

    points: list[float]
    pixels: bytes = b""


def encoder(mask: MaskEncoding) -> Encoder:
    """Return pixels and outline, or the outline alone for polygons."""
    encoders: dict[MaskEncoding, Encoder] = {"none": encode_none, "polygon": _outlines}
    return encoders.get(mask, _pixels)


def _outlines(masks: Masks) -> list[_Drawn]:
    return [_Drawn(largest(outline(mask))) for mask in masks]


def _pixels(masks: Masks) -> list[_Drawn]:
    return [_Drawn(largest(outline(mask)), _pixels_json(mask)) for mask in masks]


def _pixels_json(mask: InstanceMask) -> bytes:
    """Return the crop and its inclusive corners as a JSON list ``[0,1,...,x1,y1,x2,y2]``, row-major.

    As bytes: a Python number for each pixel would take eight times the memory.
    """
    y1, x1, y2, x2 = mask.clipped
    digits = np.full(2 * mask.bits.size, ord(","), np.uint8)
    digits[::2] = mask.bits.ravel().view(np.uint8) + ord("0")
    return b"[" + digits.tobytes() + f"{x1},{y1},{x2 - 1},{y2 - 1}]".encode()


def answer(result: Result, options: Options, model: str) -> list[CvatShape]:  # noqa: ARG001 - the format names none
    """Return an entry for each instance, but for one whose outline is empty: CVAT fails on it."""
    return [_shape(one) for one in result.instances if one.mask is None or one.mask.points]


def _shape(instance: Instance) -> CvatShape:
    confidence, label = str(score(instance)), name(instance)
    if instance.mask is None:
        y1, x1, y2, x2 = instance.box
        return CvatRectangle(confidence, label, [float(side) for side in (x1, y1, x2, y2)])
    if instance.mask.pixels:
        return CvatMask(confidence, label, instance.mask.points, msgspec.Raw(instance.mask.pixels))
    return CvatPolygon(confidence, label, instance.mask.points)
