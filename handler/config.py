"""Settings, read once from the environment and then passed on; every one has a default."""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Self, TypeVar

from handler.contract import AnchorInput, MatterportSettings, Resize
from handler.errors import ConfigError, ContractViolation
from handler.image import KINDS, Limits

T = TypeVar("T")
ADDRESS = re.compile(r"[^/\s]+:\d{1,5}|(dns|unix|unix-abstract|ipv4|ipv6|vsock|xds):\S+")
ORIGIN = re.compile(r"https?://[^/\s?#,*@]+|null")
ANY_ORIGIN = "*"
SECRET = re.compile(r"[\x21-\x7e]+")
MATTERPORT_MEAN = (123.7, 116.8, 103.9)


@dataclass(frozen=True, slots=True)
class Config:
    """What the function was told; ``matterport`` describes a model without a contract, others ignore it."""

    address: str
    model: str
    deadline_s: float
    max_body_bytes: int
    max_pixels: int
    image_kinds: tuple[str, ...]
    cors_origins: tuple[str, ...]
    api_keys: tuple[str, ...] = field(repr=False)
    project: str
    matterport: MatterportSettings

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Self:
        """Read the settings; raises ConfigError that names the variable, what it must be and what it is."""
        read = _Reader(environ)
        return cls(
            address=read.address("TF_SERVING_ADDRESS", "localhost:8500"),
            model=read.text("MODEL_NAME", "shapes"),
            deadline_s=read.number("DEADLINE_S", 20.0, positive=True),
            max_body_bytes=read.whole("MAX_BODY_BYTES", 20 << 20, low=1),
            max_pixels=read.whole("MAX_PIXELS", Limits().max_pixels, low=1),
            image_kinds=read.choices("IMAGE_KINDS", Limits().kinds, KINDS),
            cors_origins=read.origins("CORS_ORIGINS"),
            api_keys=read.secrets("API_KEYS"),
            project=read.text("GOOGLE_CLOUD_PROJECT", "", empty=True),
            matterport=_matterport(read),
        )


def _matterport(read: "_Reader") -> MatterportSettings:
    mean = read.numbers("MEAN_PIXEL", MATTERPORT_MEAN, positive=False, count=3)
    labels = read.text("CLASS_NAMES", "", empty=True)
    try:
        return MatterportSettings(
            resize=Resize(
                mode="pad64"
                if read.choice("IMAGE_RESIZE_MODE", "square", ("square", "pad64")) == "pad64"
                else "square",
                min_dim=read.whole("IMAGE_MIN_DIM", 800, low=0),
                max_dim=read.whole("IMAGE_MAX_DIM", 1024, low=1),
                min_scale=read.number("IMAGE_MIN_SCALE", 0.0, positive=False),
            ),
            mean=(mean[0], mean[1], mean[2]),
            anchors=AnchorInput(
                scales=read.numbers("RPN_ANCHOR_SCALES", (32, 64, 128, 256, 512)),
                ratios=read.numbers("RPN_ANCHOR_RATIOS", (0.5, 1, 2)),
                strides=read.wholes("BACKBONE_STRIDES", (4, 8, 16, 32, 64)),
            ),
            labels=tuple(name.strip() for name in labels.split(",")) if labels else (),
        )
    except ContractViolation as error:
        raise ConfigError(f"IMAGE_*, RPN_ANCHOR_* and BACKBONE_STRIDES must fit together: {error}") from error


class _Reader:
    """Reads single variables; a bad one raises ConfigError with its name, what it must be and what it is."""

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

    def text(self, name: str, default: str, empty: bool = False) -> str:
        return self._read(name, default, str, lambda value: empty or bool(value), "a non-empty text")

    def address(self, name: str, default: str) -> str:
        what = "host:port, or an address that gRPC resolves (dns:///host:port, unix:/path, ...)"
        return self._read(name, default, str, lambda value: bool(ADDRESS.fullmatch(value)), what)

    def choice(self, name: str, default: str, choices: tuple[str, ...]) -> str:
        return self._read(name, default, str, lambda value: value in choices, f"one of {', '.join(choices)}")

    def choices(self, name: str, default: tuple[str, ...], choices: tuple[str, ...]) -> tuple[str, ...]:
        what = f"some of {', '.join(choices)}, comma-separated"
        return self._read(name, default, _split, lambda values: bool(values) and set(values) <= set(choices), what)

    def origins(self, name: str) -> tuple[str, ...]:
        def valid(values: tuple[str, ...]) -> bool:
            return values == (ANY_ORIGIN,) or all(ORIGIN.fullmatch(value) for value in values)

        what = "origins such as https://example.com, comma-separated, without a path, or * alone"
        return self._read(name, (), lambda text: tuple(map(_origin, _split(text))), valid, what)

    def secrets(self, name: str) -> tuple[str, ...]:
        values = _split(self._environ.get(name, ""))
        for place, value in enumerate(values, start=1):
            if not SECRET.fullmatch(value):  # never quoted: an error ends in a log
                got = f"{len(value)} characters with others among them" if value else "an empty one"
                raise ConfigError(f"{name} must be keys of printable ASCII without spaces, got in place {place} {got}")
        return values

    def whole(self, name: str, default: int, low: int) -> int:
        return self._read(name, default, _whole, lambda value: value >= low, f"a whole number from {low}")

    def number(self, name: str, default: float, positive: bool) -> float:
        def valid(value: float) -> bool:
            return math.isfinite(value) and (value > 0 if positive else value >= 0)

        return self._read(name, default, float, valid, "a number above 0" if positive else "a number from 0")

    def numbers(
        self, name: str, default: tuple[float, ...], positive: bool = True, count: int | None = None
    ) -> tuple[float, ...]:
        def valid(values: tuple[float, ...]) -> bool:
            usable = all(math.isfinite(value) and (value > 0 or not positive) for value in values)
            return usable and count in (None, len(values))

        what = f"{count or 'some'} {'positive ' if positive else ''}numbers, comma-separated"
        return self._read(name, default, lambda text: tuple(map(float, text.split(","))), valid, what)

    def wholes(self, name: str, default: tuple[int, ...]) -> tuple[int, ...]:
        def valid(values: tuple[int, ...]) -> bool:
            return all(value > 0 for value in values)

        what = "positive whole numbers, comma-separated"
        return self._read(name, default, lambda text: tuple(map(_whole, text.split(","))), valid, what)


def _origin(text: str) -> str:
    """Return an origin as browsers send it: in lower case, without the port that its scheme implies."""
    origin = text.lower()
    return origin.removesuffix(":443") if origin.startswith("https:") else origin.removesuffix(":80")


def _split(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",")) if text.strip() else ()


def _whole(text: str) -> int:
    value = float(text)  # so that 50e6 is read
    if value != int(value):
        raise ValueError(text)
    return int(value)
