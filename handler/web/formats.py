"""Results into the JSON that clients asked for. Boxes turn here from y1, x1, y2, x2 into x, y, width, height."""

import uuid
from collections.abc import Iterable, Iterator

import msgspec
from msgspec import UNSET, UnsetType

from handler.errors import SegmentError
from handler.masks.encodings import Outline
from handler.model.contract import ModelContract
from handler.options import Options
from handler.pipeline import Instance, Result
from handler.web import routes, schemas

SCORE_DIGITS = 6  # float32 holds no more


def result_json(result: Result, options: Options, model: str) -> bytes:
    """Return the result in the format that the options name."""
    match options.format:
        case "coco":
            return msgspec.json.encode([_coco(instance, options.image_id) for instance in _drawn(result.instances)])
        case "cvat":
            return msgspec.json.encode([_cvat(instance) for instance in _drawn(result.instances)])
        case "roboflow":
            return msgspec.json.encode(_roboflow(result))
    return msgspec.json.encode(_instances(result, model))


def _instances(result: Result, model: str) -> schemas.Instances:
    return schemas.Instances(
        image=_size(result),
        model=schemas.Model(model, result.version),
        instances=[
            schemas.Instance(
                class_id=instance.class_id,
                label=instance.label,
                score=_score(instance),
                area=instance.area,
                box=schemas.Box(*_xywh(instance)),
                mask=None if isinstance(instance.mask, Outline) else instance.mask,
            )
            for instance in result.instances
        ],
    )


def _coco(instance: Instance, image_id: int) -> schemas.CocoResult:
    mask = instance.mask
    return schemas.CocoResult(
        image_id=image_id,
        category_id=instance.class_id,
        bbox=_xywh(instance),
        score=_score(instance),
        segmentation=mask.polygons if isinstance(mask, schemas.PolygonMask) else _rle(instance),
    )


def _cvat(instance: Instance) -> schemas.CvatShape:
    confidence, label = str(_score(instance)), _name(instance)
    if not isinstance(instance.mask, Outline):
        y1, x1, y2, x2 = instance.box
        return schemas.CvatRectangle(confidence, label, [float(side) for side in (x1, y1, x2, y2)])
    points = instance.mask.points
    if instance.mask.pixels:
        return schemas.CvatMask(confidence, label, points, msgspec.Raw(instance.mask.pixels))
    return schemas.CvatPolygon(confidence, label, points)


def _roboflow(result: Result) -> schemas.Roboflow:
    return schemas.Roboflow(
        inference_id=str(uuid.uuid4()),
        time=sum(result.durations_s.values()),
        image=_size(result),
        predictions=[_prediction(instance) for instance in _drawn(result.instances)],
    )


def _prediction(instance: Instance) -> schemas.RoboflowPrediction:
    x, y, width, height = _xywh(instance)
    points: list[schemas.Point] | UnsetType = UNSET
    if isinstance(instance.mask, Outline):
        flat = iter(instance.mask.points)
        points = [schemas.Point(x, y) for x, y in zip(flat, flat, strict=True)]
    return schemas.RoboflowPrediction(
        x=x + width / 2,
        y=y + height / 2,
        width=width,
        height=height,
        confidence=_score(instance),
        class_=_name(instance),
        class_id=instance.class_id,
        detection_id=str(uuid.uuid4()),
        points=points,
        rle=_rle(instance),
    )


def _drawn(instances: Iterable[Instance]) -> Iterator[Instance]:
    """Yield the instances but those whose outline is empty: the readers of these formats fail on them."""
    for one in instances:
        bare = isinstance(one.mask, Outline) and not one.mask.points
        if not bare and one.mask != schemas.PolygonMask(polygons=[]):
            yield one


def _rle(instance: Instance) -> schemas.CocoRle | UnsetType:
    mask = instance.mask
    return schemas.CocoRle(mask.size, mask.counts) if isinstance(mask, schemas.RleMask) else UNSET


def _size(result: Result) -> schemas.ImageSize:
    height, width = result.image_hw
    return schemas.ImageSize(width, height)


def _xywh(instance: Instance) -> tuple[int, int, int, int]:
    y1, x1, y2, x2 = instance.box
    return x1, y1, x2 - x1, y2 - y1


def _score(instance: Instance) -> float:
    return round(instance.score, SCORE_DIGITS)


def _name(instance: Instance) -> str:
    """Return the label, or the id where the model names none: these formats have no null."""
    return str(instance.class_id) if instance.label is None else instance.label


def index_json() -> bytes:
    """Return what the service offers."""
    return msgspec.json.encode(schemas.Index("segment", routes.INDEX))


def health_json() -> bytes:
    """Return what /health says."""
    return msgspec.json.encode(schemas.Health())


def ready_json(model: str, version: int) -> bytes:
    """Return what /ready says of a model that is served."""
    return msgspec.json.encode(schemas.Ready(schemas.Model(model, version)))


def model_json(model: str, contract: ModelContract, version: int) -> bytes:
    """Return the contract in force, with the model's name and version."""
    return msgspec.json.encode(schemas.ModelAnswer(schemas.Model(model, version), contract))


def problem_json(error: SegmentError, request_id: str) -> bytes:
    """Return the error for the client."""
    return msgspec.json.encode(schemas.Problem(error.title, error.status, error.detail, request_id))
