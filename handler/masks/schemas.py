"""The masks that clients get, as JSON. Coordinates are pixels of the image: x to the right, y down."""

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

Side = Annotated[int, Meta(ge=1)]
Ring = Annotated[list[float], Meta(description="x, y, x, y, ... of one closed ring; the first point is not repeated")]


class Value(msgspec.Struct, frozen=True):
    """Common settings: immutable, compared by value."""


class Box(Value, frozen=True):
    """Covers [x, x + width) x [y, y + height), pixels."""

    x: int
    y: int
    width: Side
    height: Side


class RleMask(Value, frozen=True, tag_field="format", tag="rle"):
    """COCO compressed run-length encoding over the whole image; ``size`` is height, width."""

    size: tuple[Side, Side]
    counts: str


class PolygonMask(Value, frozen=True, tag_field="format", tag="polygon"):
    """The outline of every part. Outer rings run clockwise on the screen; their holes follow, anticlockwise."""

    polygons: list[Ring]


class PngMask(Value, frozen=True, tag_field="format", tag="png"):
    """An 8-bit grey PNG, 0 or 255, the size of the instance's box."""

    data: Annotated[str, Meta(extra_json_schema={"contentEncoding": "base64", "contentMediaType": "image/png"})]


class Float32Mask(Value, frozen=True, tag_field="format", tag="float32"):
    """The model's probabilities, little-endian float32, row-major, ``size`` height, width.

    They cover the instance's box. If the image's edge cuts that box, they cover ``box``, which reaches beyond the edge.
    """

    size: tuple[Side, Side]
    data: Annotated[str, Meta(extra_json_schema={"contentEncoding": "base64"})]
    box: Box | UnsetType = UNSET


Mask = RleMask | PolygonMask | PngMask | Float32Mask
