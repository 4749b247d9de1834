"""``format=instances``: this project's own answer, with every mask encoding."""

from typing import Annotated

from msgspec import Meta

from handler.masks.encodings import ENCODERS, Encoder
from handler.masks.schemas import Box, Mask, Value
from handler.options import MaskEncoding, Options
from handler.pipeline import Result
from handler.web.formats import score, size_of, xywh
from handler.web.schemas import ImageSize, Model, Pixels, Score


class Instance(Value, frozen=True):
    """One object; ``area`` is the pixel count of its mask, ``label`` null where the model names none."""

    class_id: Annotated[int, Meta(ge=1)]
    label: str | None
    score: Score
    area: Pixels
    box: Box
    mask: Mask | None


class Instances(Value, frozen=True):
    """The answer ``format=instances``, by falling score."""

    image: ImageSize
    model: Model
    instances: list[Instance]


ANSWER = Instances


def encoder(mask: MaskEncoding) -> Encoder:
    """Return the encoder that the option names."""
    return ENCODERS[mask]


def answer(result: Result, options: Options, model: str) -> Instances:  # noqa: ARG001 - the options of other formats
    """Return the answer."""
    return Instances(
        image=size_of(result),
        model=Model(model, result.version),
        instances=[
            Instance(one.class_id, one.label, score(one), one.area, Box(*xywh(one)), one.mask)
            for one in result.instances
        ],
    )
