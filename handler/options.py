"""Options from text: every name and value is checked, and what is refused is named."""

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from handler.errors import BadRequest
from handler.pipeline import Options

MAX_INSTANCES = 1000
MASKS = ("rle", "none")
FORMATS = ("instances",)


def parse_options(pairs: Iterable[tuple[str, str]]) -> Options:
    """Return the Options that name, value pairs ask for.

    Raises BadRequest for an unknown or repeated name and for a value that is not allowed.
    """
    read: dict[str, Any] = {}
    for name, text in pairs:
        if name not in _PARSERS:
            raise BadRequest(f"the option must be one of {', '.join(_PARSERS)}, got {name!r}")
        if name in read:
            raise BadRequest(f"option {name} must be given once, got it again as {text!r}")
        try:
            read[name] = _PARSERS[name](text)
        except (ValueError, msgspec.DecodeError) as error:
            raise BadRequest(f"option {name} must be {_ALLOWED[name]}, got {text!r}") from error
    read.pop("format", None)  # the only one so far
    return Options(**read)


def _share(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise ValueError(text)
    return value


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= MAX_INSTANCES and len(text) < 9):
        raise ValueError(text)
    return int(text)


def _classes(text: str) -> tuple[str, ...]:
    if text.lstrip().startswith("["):
        parsed = msgspec.json.decode(text, type=list[str | int])
        names = tuple(str(name) for name in parsed)
    else:
        names = tuple(name.strip() for name in text.split(","))
    if not names or not all(names):
        raise ValueError(text)
    return names


def _choice(choices: tuple[str, ...]) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in choices:
            raise ValueError(text)
        return text

    return parse


_PARSERS: dict[str, Callable[[str], Any]] = {
    "threshold": _share,
    "max_instances": _count,
    "classes": _classes,
    "mask": _choice(MASKS),
    "mask_threshold": _share,
    "format": _choice(FORMATS),
}
_ALLOWED = {
    "threshold": "a number in 0..1",
    "max_instances": f"a whole number in 1..{MAX_INSTANCES}",
    "classes": "labels or ids, comma-separated or a JSON list",
    "mask": f"one of {', '.join(MASKS)}",
    "mask_threshold": "a number in 0..1",
    "format": f"one of {', '.join(FORMATS)}",
}
