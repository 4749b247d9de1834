"""The answer formats, one file each, found by the name that the option ``format`` has.

To add one, write a file with what :class:`AnswerFormat` lists, and add its name to :data:`handler.options.Format`.
Boxes turn here from y1, x1, y2, x2 into x, y, width, height.
"""

import importlib
from typing import Any, Protocol, cast

from handler.masks.encodings import Encoder
from handler.options import MaskEncoding, Options
from handler.pipeline import Instance, Result
from handler.web.schemas import ImageSize

SCORE_DIGITS = 6  # float32 holds no more


class AnswerFormat(Protocol):
    """What a file of this package has. ``ANSWER`` is the type of its JSON, for /openapi.json."""

    ANSWER: Any

    def encoder(self, mask: MaskEncoding) -> Encoder:
        """Return how each mask is encoded for the option ``mask``."""

    def answer(self, result: Result, options: Options, model: str) -> Any:
        """Return the answer, a value of type ``ANSWER``."""


def find(name: str) -> AnswerFormat:
    """Return the format of a name that the option ``format`` allows."""
    return cast(AnswerFormat, importlib.import_module(f"{__name__}.{name}"))


def size_of(result: Result) -> ImageSize:
    """Return the size of the image."""
    height, width = result.image_hw
    return ImageSize(width, height)


def xywh(instance: Instance) -> tuple[int, int, int, int]:
    """Return the box as x, y, width, height."""
    y1, x1, y2, x2 = instance.box
    return x1, y1, x2 - x1, y2 - y1


def score(instance: Instance) -> float:
    """Return the score, rounded."""
    return round(instance.score, SCORE_DIGITS)


def name(instance: Instance) -> str:
    """Return the label, or the class id if the model names none: most formats have no null."""
    return str(instance.class_id) if instance.label is None else instance.label
