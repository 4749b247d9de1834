"""``format=instances``: the default answer, with every mask encoding."""

from typing import Annotated

from msgspec import Meta

from handler.masks.encodings import ENCODERS, Encoder
from handler.masks.schemas import Box, Mask, Value
from handler.options import MaskEncoding, Options
from handler.pipeline import Result
from handler.web.formats import score, size_of, xywh
from handler.web.schemas import ImageSize, Model, Pixels, Score


class Instance(Value, frozen=True):
    """One object. ``area``: pixels in its mask. ``label``: null if the model has no label for the class."""

    class_id: Annotated[int, Meta(ge=1)]
    label: str | None
    score: Score
    area: Pixels
    box: Box
    mask: Mask | None


class Instances(Value, frozen=True):
    """The answer for ``format=instances``: the instances by falling score."""

    image: ImageSize
    model: Model
    instances: list[Instance]


ANSWER = Instances


def encoder(mask: MaskEncoding) -> Encoder:
    """Return the encoder for the option ``mask``."""
    return ENCODERS[mask]


def answer(result: Result, options: Options, model: str) -> Instances:  # noqa: ARG001 - other formats use the options
    """Return all instances with their masks."""
    return Instances(
        image=size_of(result),
        model=Model(model, result.version),
        instances=[
            Instance(found.class_id, found.label, score(found), found.area, Box(*xywh(found)), found.mask)
            for found in result.instances
        ],
    )
