"""``format=cvat``: the list that a detector function of CVAT returns."""

from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta

from handler.masks.encodings import Encoder, InstanceMask, Masks, encode_none, largest_ring, outline
from handler.masks.schemas import Ring, Value
from handler.options import MaskEncoding, Options
from handler.pipeline import Instance, Result
from handler.web.formats import label_or_id, score


class CvatShape(Value, frozen=True, tag_field="type"):
    """One entry of ``format=cvat``; its subclasses are CVAT's shape types."""

    confidence: str
    label: str


class CvatMask(CvatShape, frozen=True, tag="mask"):
    """``mask``: the pixels of the box, 0 or 1, row-major, then its xtl, ytl, xbr, ybr, which are inclusive."""

    points: Ring
    mask: Annotated[msgspec.Raw, Meta(extra_json_schema={"type": "array", "items": {"type": "integer"}})]


class CvatPolygon(CvatShape, frozen=True, tag="polygon"):
    """``points``: the outline of the largest part."""

    points: Ring


class CvatRectangle(CvatShape, frozen=True, tag="rectangle"):
    """``points``: xtl, ytl, xbr, ybr of the box."""

    points: Ring


ANSWER = list[CvatMask | CvatPolygon | CvatRectangle]


class _Drawing(msgspec.Struct, frozen=True):
    """The outline of the largest part as x, y, x, y, ...; ``pixels``: the mask as JSON, or empty."""

    points: list[float]
    pixels: bytes = b""


def encoder(mask: MaskEncoding) -> Encoder:
    """Return the encoder: pixels and outline, or only the outline for the option value polygon."""
    encoders: dict[MaskEncoding, Encoder] = {"none": encode_none, "polygon": _outlines}
    return encoders.get(mask, _pixels)


def _outlines(masks: Masks) -> list[_Drawing]:
    return [_Drawing(largest_ring(outline(mask))) for mask in masks]


def _pixels(masks: Masks) -> list[_Drawing]:
    return [_Drawing(largest_ring(outline(mask)), _mask_json(mask)) for mask in masks]


def _mask_json(mask: InstanceMask) -> bytes:
    """Return the crop, row-major, and its inclusive corners as a JSON list ``[0,1,...,x1,y1,x2,y2]``.

    The list is built as bytes. Python numbers would take eight times the memory.
    """
    y1, x1, y2, x2 = mask.clipped
    digits = np.full(2 * mask.bits.size, ord(","), np.uint8)
    digits[::2] = mask.bits.ravel().view(np.uint8) + ord("0")
    return b"[" + digits.tobytes() + f"{x1},{y1},{x2 - 1},{y2 - 1}]".encode()


def answer(result: Result, options: Options, model: str) -> list[CvatShape]:  # noqa: ARG001 - the format has no model
    """Return an entry per instance, but none if its outline is empty: CVAT fails on that."""
    return [_shape(instance) for instance in result.instances if instance.mask is None or instance.mask.points]


def _shape(instance: Instance) -> CvatShape:
    confidence, label = str(score(instance)), label_or_id(instance)
    if instance.mask is None:
        y1, x1, y2, x2 = instance.box
        return CvatRectangle(confidence, label, [float(side) for side in (x1, y1, x2, y2)])
    if instance.mask.pixels:
        return CvatMask(confidence, label, instance.mask.points, msgspec.Raw(instance.mask.pixels))
    return CvatPolygon(confidence, label, instance.mask.points)
