"""Variables of the environment -> values; a bad one raises ConfigError that names it."""

import math
import re
from collections.abc import Callable, Mapping
from typing import TypeVar

from handler.errors import ConfigError

T = TypeVar("T")
ORIGIN = re.compile(r"https?://[^/\s?#,*@]+|null")
ANY_ORIGIN = "*"
SECRET = re.compile(r"[\x21-\x7e]+")


class Reader:
    """Reads single variables; a bad one raises ConfigError with its name, what it must be and what it is."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    def _read(self, name: str, default: T, parse: Callable[[str], T], valid: Callable[[T], bool], what: str) -> T:
        text = self._environ.get(name)
        if text is None:
            return default
        try:
            text.encode()  # bytes that are no UTF-8 come as what no message takes
            value = parse(text.strip())
        except (ValueError, OverflowError) as error:
            raise ConfigError(f"{name} must be {what}, got {text!r}") from error
        if not valid(value):
            raise ConfigError(f"{name} must be {what}, got {text!r}")
        return value

    def text(self, name: str, default: str, empty: bool = False) -> str:
        """Return a text; ``empty`` tells whether it may be empty."""
        return self._read(name, default, str, lambda value: empty or bool(value), "a non-empty text")

    def matching(self, name: str, default: str, pattern: re.Pattern[str], what: str) -> str:
        """Return a text that ``pattern`` matches whole; ``what`` says it in words."""
        return self._read(name, default, str, lambda value: bool(pattern.fullmatch(value)), what)

    def choice(self, name: str, default: str, choices: tuple[str, ...]) -> str:
        """Return one of ``choices``."""
        return self._read(name, default, str, lambda value: value in choices, f"one of {', '.join(choices)}")

    def choices(self, name: str, default: tuple[str, ...], choices: tuple[str, ...]) -> tuple[str, ...]:
        """Return some of ``choices``, at least one."""
        what = f"some of {', '.join(choices)}, comma-separated"
        return self._read(name, default, _split, lambda values: bool(values) and set(values) <= set(choices), what)

    def origins(self, name: str) -> tuple[str, ...]:
        """Return origins as browsers send them, or ANY_ORIGIN alone; () where none is set."""

        def valid(values: tuple[str, ...]) -> bool:
            return values == (ANY_ORIGIN,) or all(ORIGIN.fullmatch(value) for value in values)

        what = "origins such as https://example.com, comma-separated, without a path, or * alone"
        return self._read(name, (), lambda text: tuple(map(_origin, _split(text))), valid, what)

    def secrets(self, name: str) -> tuple[str, ...]:
        """Return secrets, () where none is set; no error quotes one."""
        values = _split(self._environ.get(name, ""))
        for place, value in enumerate(values, start=1):
            if not SECRET.fullmatch(value):  # never quoted: an error ends in a log
                got = f"{len(value)} characters with others among them" if value else "an empty one"
                raise ConfigError(f"{name} must be keys of printable ASCII without spaces, got in place {place} {got}")
        return values

    def whole(self, name: str, default: int, low: int) -> int:
        """Return a whole number from ``low``."""
        return self._read(name, default, _whole, lambda value: value >= low, f"a whole number from {low}")

    def number(self, name: str, default: float, positive: bool, high: float = math.inf) -> float:
        """Return a finite number from 0, or above 0 where it has to be ``positive``, up to ``high``."""

        def valid(value: float) -> bool:
            return math.isfinite(value) and (value > 0 if positive else value >= 0) and value <= high

        what = "a number above 0" if positive else "a number from 0"
        return self._read(name, default, float, valid, what if high == math.inf else f"{what}, {high:g} at most")

    def numbers(
        self, name: str, default: tuple[float, ...], positive: bool = True, count: int | None = None
    ) -> tuple[float, ...]:
        """Return finite numbers, ``count`` of them unless that is None."""

        def valid(values: tuple[float, ...]) -> bool:
            usable = all(math.isfinite(value) and (value > 0 or not positive) for value in values)
            return usable and count in (None, len(values))

        what = f"{count or 'some'} {'positive ' if positive else ''}numbers, comma-separated"
        return self._read(name, default, lambda text: tuple(map(float, text.split(","))), valid, what)

    def wholes(self, name: str, default: tuple[int, ...]) -> tuple[int, ...]:
        """Return positive whole numbers."""

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
