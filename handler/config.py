"""Settings, read once from the environment and then passed on; every one has a default."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Self, TypeVar

from handler.contract import AnchorInput, Resize
from handler.errors import ConfigError, ContractViolation

T = TypeVar("T")
MATTERPORT_MEAN = (123.7, 116.8, 103.9)


@dataclass(frozen=True, slots=True)
class Config:
    """What the function was told.

    The last four describe a Matterport model that carries no contract; a model that carries one ignores them.
    """

    address: str
    model: str
    deadline_s: float
    max_body_bytes: int
    max_pixels: int
    resize: Resize
    mean: tuple[float, float, float]
    anchors: AnchorInput
    labels: tuple[str, ...]

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Self:
        """Read the settings; raises ConfigError that names the variable, what it must be and what it is."""
        read = _Reader(environ)
        try:
            resize = Resize(
                mode="square"
                if read.choice("IMAGE_RESIZE_MODE", "square", ("square", "pad64")) == "square"
                else "pad64",
                min_dim=read.whole("IMAGE_MIN_DIM", 800, low=0),
                max_dim=read.whole("IMAGE_MAX_DIM", 1024, low=1),
                min_scale=read.number("IMAGE_MIN_SCALE", 0.0, above=None),
            )
            mean = read.numbers("MEAN_PIXEL", MATTERPORT_MEAN, positive=False)
            anchors = AnchorInput(
                scales=read.numbers("RPN_ANCHOR_SCALES", (32, 64, 128, 256, 512)),
                ratios=read.numbers("RPN_ANCHOR_RATIOS", (0.5, 1, 2)),
                strides=tuple(int(stride) for stride in read.numbers("BACKBONE_STRIDES", (4, 8, 16, 32, 64))),
            )
        except ContractViolation as error:
            raise ConfigError(f"IMAGE_* and RPN_*, BACKBONE_STRIDES settings do not fit together: {error}") from error
        if len(mean) != 3:
            raise ConfigError(f"MEAN_PIXEL must be three numbers, got {environ.get('MEAN_PIXEL')!r}")
        labels = environ.get("CLASS_NAMES", "")
        return cls(
            address=read.text("TF_SERVING_ADDRESS", "localhost:8500"),
            model=read.text("MODEL_NAME", "shapes"),
            deadline_s=read.number("DEADLINE_S", 20.0, above=0.0),
            max_body_bytes=read.whole("MAX_BODY_BYTES", 20 << 20, low=1),
            max_pixels=read.whole("MAX_PIXELS", 50_000_000, low=1),
            resize=resize,
            mean=(mean[0], mean[1], mean[2]),
            anchors=anchors,
            labels=tuple(name.strip() for name in labels.split(",")) if labels.strip() else (),
        )


class _Reader:
    """Reads single variables, with messages."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    def _read(self, name: str, default: T, parse: Callable[[str], T], valid: Callable[[T], bool], what: str) -> T:
        text = self._environ.get(name)
        if text is None:
            return default
        try:
            value = parse(text.strip())
        except (ValueError, OverflowError) as error:
            raise ConfigError(f"{name} must be {what}, got {text!r}") from error
        if not valid(value):
            raise ConfigError(f"{name} must be {what}, got {text!r}")
        return value

    def text(self, name: str, default: str) -> str:
        return self._read(name, default, str, bool, "a non-empty text")

    def choice(self, name: str, default: str, choices: tuple[str, ...]) -> str:
        return self._read(name, default, str, lambda value: value in choices, f"one of {', '.join(choices)}")

    def whole(self, name: str, default: int, low: int) -> int:
        return self._read(name, default, _whole, lambda value: value >= low, f"a whole number from {low}")

    def number(self, name: str, default: float, above: float | None) -> float:
        what = "a number from 0" if above is None else f"a number above {above:g}"
        return self._read(
            name, default, float, lambda v: math.isfinite(v) and (v >= 0 if above is None else v > above), what
        )

    def numbers(self, name: str, default: tuple[float, ...], positive: bool = True) -> tuple[float, ...]:
        def valid(values: tuple[float, ...]) -> bool:
            return all(math.isfinite(value) and (value > 0 or not positive) for value in values)

        what = "positive numbers, comma-separated" if positive else "numbers, comma-separated"
        return self._read(name, default, lambda text: tuple(float(part) for part in text.split(",")), valid, what)


def _whole(text: str) -> int:
    value = float(text)  # so that 50e6 is accepted
    if value != int(value):
        raise ValueError(text)
    return int(value)
