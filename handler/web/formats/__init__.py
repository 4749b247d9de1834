"""The answer formats: one module each, named like the value of the option ``format``.

To add one, write a module with the members of :class:`AnswerFormat`, and add its name to
:data:`handler.options.Format`. Here boxes change from y1, x1, y2, x2 to x, y, width, height.
"""

import importlib
from typing import Any, Protocol, cast

from handler.masks.encodings import Encoder
from handler.options import MaskEncoding, Options
from handler.pipeline import Instance, Result
from handler.web.schemas import ImageSize

SCORE_DIGITS = 6  # float32 has no more


class AnswerFormat(Protocol):
    """The members of a format's module. ``ANSWER``: the type of its JSON, for /openapi.json."""

    ANSWER: Any

    def encoder(self, mask: MaskEncoding) -> Encoder:
        """Return the encoder for the option ``mask``."""

    def answer(self, result: Result, options: Options, model: str) -> Any:
        """Return the answer, a value of type ``ANSWER``."""


def find(name: str) -> AnswerFormat:
    """Return the format for a value of the option ``format``."""
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


def label_or_id(instance: Instance) -> str:
    """Return the label, or the class id if the model has no labels: most formats allow no null."""
    return str(instance.class_id) if instance.label is None else instance.label
