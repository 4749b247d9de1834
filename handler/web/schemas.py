"""Every JSON shape that leaves the function, declared once: it encodes the answers and describes them in /openapi.json.

Coordinates are pixels of the image as sent, after its EXIF orientation: x to the right, y down.
"""

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from handler.model.contract import ModelContract

JSON, PROBLEM = "application/json", "application/problem+json"

Pixels = Annotated[int, Meta(ge=0)]
Side = Annotated[int, Meta(ge=1)]
Score = Annotated[float, Meta(ge=0, le=1)]
Ring = Annotated[list[float], Meta(description="x, y, x, y, ... of one closed ring; the first point is not repeated")]


class _Shape(msgspec.Struct, frozen=True):
    """Common settings: shapes are values."""


class ImageSize(_Shape, frozen=True):
    """Size of the image as sent, after its EXIF orientation, in pixels."""

    width: Side
    height: Side


class Model(_Shape, frozen=True):
    """Which model answered."""

    name: str
    version: int


class Box(_Shape, frozen=True):
    """Covers [x, x + width) x [y, y + height), pixels."""

    x: int
    y: int
    width: Side
    height: Side


class RleMask(_Shape, frozen=True, tag_field="format", tag="rle"):
    """COCO compressed run-length encoding over the whole image; ``size`` is height, width."""

    size: tuple[Side, Side]
    counts: str


class PolygonMask(_Shape, frozen=True, tag_field="format", tag="polygon"):
    """The outline of every part: outer rings run clockwise on the screen, each followed by its holes, which do not."""

    polygons: list[Ring]


class PngMask(_Shape, frozen=True, tag_field="format", tag="png"):
    """An 8-bit grey PNG, 0 or 255, the size of the instance's box."""

    data: Annotated[str, Meta(extra_json_schema={"contentEncoding": "base64", "contentMediaType": "image/png"})]


class Float32Mask(_Shape, frozen=True, tag_field="format", tag="float32"):
    """The model's probabilities, little-endian float32, row-major, ``size`` height, width.

    They cover the instance's box; where that was cut at the image's edge, they cover ``box``, which reaches beyond.
    """

    size: tuple[Side, Side]
    data: Annotated[str, Meta(extra_json_schema={"contentEncoding": "base64"})]
    box: Box | UnsetType = UNSET


Mask = RleMask | PolygonMask | PngMask | Float32Mask


class Instance(_Shape, frozen=True):
    """One object; ``area`` is the pixel count of its mask, ``label`` null where the model names none."""

    class_id: Annotated[int, Meta(ge=1)]
    label: str | None
    score: Score
    area: Pixels
    box: Box
    mask: Mask | None


class Instances(_Shape, frozen=True):
    """The answer ``format=instances``, by falling score."""

    image: ImageSize
    model: Model
    instances: list[Instance]


class CocoRle(_Shape, frozen=True):
    """A mask as pycocotools takes it."""

    size: tuple[Side, Side]
    counts: str


class CocoResult(_Shape, frozen=True):
    """One entry of ``format=coco``; ``bbox`` is x, y, width, height."""

    image_id: Pixels
    category_id: Annotated[int, Meta(ge=1)]
    bbox: tuple[int, int, int, int]
    score: Score
    segmentation: CocoRle | list[Ring] | UnsetType = UNSET


class CvatShape(_Shape, frozen=True, tag_field="type"):
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


class Point(_Shape, frozen=True):
    """A corner of an outline."""

    x: float
    y: float


class RoboflowPrediction(_Shape, frozen=True):
    """One object; ``x``, ``y`` are the centre of its box. ``points``: the outline of the largest part."""

    x: float
    y: float
    width: Side
    height: Side
    confidence: Score
    class_: str = msgspec.field(name="class")
    class_id: Annotated[int, Meta(ge=1)]
    detection_id: str
    points: list[Point] | UnsetType = UNSET
    rle: CocoRle | UnsetType = UNSET


class Roboflow(_Shape, frozen=True):
    """The answer ``format=roboflow``; ``time`` in seconds."""

    inference_id: str
    time: float
    image: ImageSize
    predictions: list[RoboflowPrediction]


class Problem(_Shape, frozen=True):
    """``application/problem+json``, RFC 9457: what was expected and what came."""

    title: str
    status: int
    detail: str
    request_id: str
    type: str = "about:blank"


class Index(_Shape, frozen=True):
    """What this service is and what it offers."""

    service: str
    endpoints: dict[str, str]


class Health(_Shape, frozen=True):
    """The process runs."""

    status: str = "ok"


class Ready(_Shape, frozen=True):
    """The model can be asked."""

    model: Model
    status: str = "ready"


class ModelAnswer(_Shape, frozen=True):
    """The contract in force and the version that stated it."""

    model: Model
    contract: ModelContract
