"""What one request costs, by the numbers on the wire, read from the file that ``make bench`` writes."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from deploy.tools.processes import RunError

PHOTO, OBJECTS = "1024 x 1024", "100 objects"  # what all the figures that are read here were measured with
EXPORTS = {"int8": "int8", "float32": "float32"}  # numbers on the wire -> the benchmark's name of the export
CPU = "cpu_s_per_request_100"
PATHS = {"int8": "adapter", "float32": "adapter, float32 model"}  # and of the function that asks for it


@dataclass(frozen=True)
class Request:
    """One photograph through the function: bytes of each message, seconds in the function, seconds of its processor.

    ``measured`` is False where nobody gave the seconds of these numbers: they are int8's then, a lower bound.
    """

    numbers: str
    photo_bytes: float
    up_bytes: float
    down_bytes: float
    function_s: float
    cpu_s: float
    measured: bool


@dataclass(frozen=True)
class Own:
    """Figures of one's own that take the place of the file's; None keeps those. Raises RunError where not above 0."""

    cpu_ms: float | None = None
    float32_cpu_ms: float | None = None
    photo_bytes: float | None = None

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value is not None and not 0 < value < float("inf"):
                raise RunError(f"{name} must be above 0, got {value}")


def read(path: Path, own: Own | None = None) -> list[Request]:
    """Return the request of int8 and of float32. Raises RunError: no such file, or not what ``make bench`` writes."""
    try:
        figures = json.loads(path.read_bytes())
    except OSError as error:
        raise RunError(
            f"figures must be a file of `make bench`, got {path}: {error.strerror}; run that first"
        ) from error
    except ValueError as error:
        raise RunError(f"figures must be JSON of `make bench`, got {path}: {error}; run that again") from error
    own = own or Own()
    timed = _find(figures, CPU, PATHS["float32"]) is not None
    float32_cpu_ms = own.float32_cpu_ms or (None if timed else own.cpu_ms)
    int8 = _request(figures, path, "int8", "int8", own.cpu_ms)
    float32 = _request(figures, path, "float32", "float32" if timed else "int8", float32_cpu_ms)
    float32 = replace(float32, measured=timed or own.float32_cpu_ms is not None)
    return [replace(one, photo_bytes=own.photo_bytes or one.photo_bytes) for one in (int8, float32)]


def _request(figures: Any, path: Path, numbers: str, timed_as: str, cpu_ms: float | None) -> Request:
    cpu_s = _number(figures, path, CPU, PATHS[timed_as]) if cpu_ms is None else cpu_ms / 1000
    function_s = _number(figures, path, "times_ms", OBJECTS, PATHS[timed_as], "median") / 1000
    return Request(
        numbers=numbers,
        photo_bytes=_number(figures, path, "photo_bytes", PHOTO),
        up_bytes=_number(figures, path, "wire_bytes", EXPORTS[numbers], "up"),
        down_bytes=_number(figures, path, "wire_bytes", EXPORTS[numbers], "down"),
        function_s=max(function_s, cpu_s),
        cpu_s=cpu_s,
        measured=True,
    )


def _number(figures: Any, path: Path, *keys: str) -> float:
    found = _find(figures, *keys)
    if isinstance(found, bool) or not isinstance(found, int | float) or not 0 < found < float("inf"):
        named = " / ".join(keys)
        raise RunError(f"{path} must hold a number above 0 under {named}, got {found!r}; run `make bench` again")
    return float(found)


def _find(figures: Any, *keys: str) -> Any:
    for key in keys:
        figures = figures.get(key) if isinstance(figures, dict) else None
    return figures
