"""The JSON shapes of the answers. Boxes turn here from y1, x1, y2, x2 into x, y, width, height, pixels of the image."""

from typing import Any, Literal

import msgspec

from handler.contract import ModelContract
from handler.errors import SegmentError
from handler.pipeline import Instance, Result

SCORE_DIGITS = 6  # float32 holds no more


class ImageSize(msgspec.Struct, frozen=True):
    """Size of the image as sent, after its EXIF orientation."""

    width: int
    height: int


class Model(msgspec.Struct, frozen=True):
    """Which model answered."""

    name: str
    version: int


class Box(msgspec.Struct, frozen=True):
    """Covers [x, x + width) x [y, y + height)."""

    x: int
    y: int
    width: int
    height: int


class Rle(msgspec.Struct, frozen=True):
    """COCO compressed RLE over the whole image; ``size`` is height, width."""

    size: tuple[int, int]
    counts: str
    format: Literal["rle"] = "rle"


class InstanceShape(msgspec.Struct, frozen=True):
    """One object; ``mask`` is null where none was asked for, ``label`` where the model names none."""

    class_id: int
    label: str | None
    score: float
    area: int
    box: Box
    mask: Rle | None


class InstancesShape(msgspec.Struct, frozen=True):
    """The answer ``format=instances``: by falling score."""

    image: ImageSize
    model: Model
    instances: list[InstanceShape]


class Problem(msgspec.Struct, frozen=True):
    """``application/problem+json``, RFC 9457."""

    title: str
    status: int
    detail: str
    request_id: str
    type: str = "about:blank"


def instances_json(result: Result, model: str) -> bytes:
    """Return the result as ``format=instances``."""
    height, width = result.image_hw
    shapes = [_instance(instance, result.image_hw) for instance in result.instances]
    return msgspec.json.encode(InstancesShape(ImageSize(width, height), Model(model, result.version), shapes))


def _instance(instance: Instance, image_hw: tuple[int, int]) -> InstanceShape:
    y1, x1, y2, x2 = instance.box
    return InstanceShape(
        class_id=instance.class_id,
        label=instance.label,
        score=round(instance.score, SCORE_DIGITS),
        area=instance.area,
        box=Box(x=x1, y=y1, width=x2 - x1, height=y2 - y1),
        mask=None if instance.rle is None else Rle(size=image_hw, counts=instance.rle),
    )


def model_json(model: str, contract: ModelContract, version: int) -> bytes:
    """Return the contract in force, with the model's name and version."""
    return msgspec.json.encode({"model": Model(model, version), "contract": contract})


def ready_json(model: str, version: int) -> bytes:
    """Return what /ready says of a model that is served."""
    return msgspec.json.encode({"status": "ready", "model": Model(model, version)})


def problem_json(error: SegmentError, request_id: str) -> bytes:
    """Return the error for the client."""
    return msgspec.json.encode(Problem(error.title, error.status, error.detail, request_id))


def plain_json(value: dict[str, Any]) -> bytes:
    """Return plain values as JSON."""
    return msgspec.json.encode(value)
