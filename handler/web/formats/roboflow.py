"""``format=roboflow``: what ``supervision.Detections.from_inference`` reads."""

import uuid
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from handler.masks.encodings import Encoder, Masks, border, encode_none, encode_rle
from handler.masks.schemas import CocoRle, RleMask, Side, Value
from handler.options import MaskEncoding, Options
from handler.pipeline import Instance, Result
from handler.web.formats import label_or_id, score, size_of, xywh
from handler.web.schemas import ImageSize, Score


class Point(Value, frozen=True):
    """A corner of an outline: the centre of a pixel, which has the pixel's whole coordinates."""

    x: int
    y: int


class RoboflowPrediction(Value, frozen=True):
    """One object. ``x``, ``y``: the centre of its box. ``points``: the outermost pixels of the largest part."""

    x: float
    y: float
    width: Side
    height: Side
    confidence: Score
    class_: str = msgspec.field(name="class")
    class_id: Annotated[int, Meta(ge=1)]
    detection_id: str
    mask_format: Literal["rle", "polygon"] | UnsetType = UNSET
    points: list[Point] | UnsetType = UNSET
    rle: CocoRle | UnsetType = UNSET


class Roboflow(Value, frozen=True):
    """The answer for ``format=roboflow``; ``time`` is in seconds."""

    inference_id: str
    time: float
    image: ImageSize
    predictions: list[RoboflowPrediction]


ANSWER = Roboflow


def encoder(mask: MaskEncoding) -> Encoder:
    """Return the encoder: RLE, or the outline of the largest part for the option value polygon."""
    encoders: dict[MaskEncoding, Encoder] = {"none": encode_none, "polygon": _outlines}
    return encoders.get(mask, encode_rle)


def _outlines(masks: Masks) -> list[list[Point]]:
    rings = (border(mask) for mask in masks)
    return [[] if ring is None else [Point(x, y) for x, y in ring.tolist()] for ring in rings]


def answer(result: Result, options: Options, model: str) -> Roboflow:  # noqa: ARG001 - the format has no model
    """Return a prediction per instance, but none if its outline is empty: supervision fails on that."""
    return Roboflow(
        inference_id=str(uuid.uuid4()),
        time=sum(result.durations_s.values()),
        image=size_of(result),
        predictions=[_prediction(instance) for instance in result.instances if instance.mask != []],
    )


def _prediction(instance: Instance) -> RoboflowPrediction:
    x, y, width, height = xywh(instance)
    prediction = RoboflowPrediction(
        x=x + width / 2,
        y=y + height / 2,
        width=width,
        height=height,
        confidence=score(instance),
        class_=label_or_id(instance),
        class_id=instance.class_id,
        detection_id=str(uuid.uuid4()),
    )
    mask = instance.mask
    if isinstance(mask, RleMask):
        return msgspec.structs.replace(prediction, mask_format="rle", rle=CocoRle(mask.size, mask.counts))
    return prediction if mask is None else msgspec.structs.replace(prediction, mask_format="polygon", points=mask)
