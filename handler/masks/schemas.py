"""The JSON of masks. Coordinates are image pixels: x to the right, y down."""

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

Side = Annotated[int, Meta(ge=1)]
Ring = Annotated[list[float], Meta(description="x, y, x, y, ... of one closed ring; the first point is not repeated")]


class Value(msgspec.Struct, frozen=True):
    """Base of the JSON types: immutable, compared by value."""


class Box(Value, frozen=True):
    """The pixels [x, x + width) x [y, y + height)."""

    x: int
    y: int
    width: Side
    height: Side


class RleMask(Value, frozen=True, tag_field="format", tag="rle"):
    """COCO compressed run-length encoding over the whole image; ``size`` is height, width."""

    size: tuple[Side, Side]
    counts: str


class CocoRle(Value, frozen=True):
    """A mask as pycocotools reads it; ``size`` is height, width."""

    size: tuple[Side, Side]
    counts: str


class PolygonMask(Value, frozen=True, tag_field="format", tag="polygon"):
    """The outlines of all parts. Outer rings run clockwise on the screen; their holes follow, anticlockwise."""

    polygons: list[Ring]


class PngMask(Value, frozen=True, tag_field="format", tag="png"):
    """An 8-bit grey PNG of 0 and 255, as large as the instance's box."""

    data: Annotated[str, Meta(extra_json_schema={"contentEncoding": "base64", "contentMediaType": "image/png"})]


class Float32Mask(Value, frozen=True, tag_field="format", tag="float32"):
    """The model's probabilities: little-endian float32, row-major; ``size`` is height, width.

    They cover the instance's box. If the image's edge cuts that box, they cover ``box``, which extends past the edge.
    """

    size: tuple[Side, Side]
    data: Annotated[str, Meta(extra_json_schema={"contentEncoding": "base64"})]
    box: Box | UnsetType = UNSET


Mask = RleMask | PolygonMask | PngMask | Float32Mask
