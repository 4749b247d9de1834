"""The options of a request, declared once: their types check them and describe them in /openapi.json."""

import functools
import json
import re
from collections.abc import Iterable
from typing import Annotated, Any, Literal, get_args, get_type_hints

import msgspec
from msgspec import UNSET, Meta, UnsetType

from handler.errors import BadRequest, shown

MaskEncoding = Literal["rle", "polygon", "png", "float32", "none"]
Format = Literal["instances", "coco", "cvat", "roboflow"]  # each a file of handler/web/formats
Share = Annotated[float, Meta(ge=0, le=1)]
Classes = (
    Annotated[tuple[Annotated[str, Meta(min_length=1)] | Annotated[int, Meta(ge=1)], ...], Meta(min_length=1)]
    | Annotated[str, Meta(min_length=1)]
    | Annotated[int, Meta(ge=1)]
)


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the client asked for."""

    threshold: Annotated[Share, Meta(description="least score of an instance")] = 0.0
    max_instances: (
        Annotated[int, Meta(ge=1, le=1000, description="at most so many, best scores first; all by default")]
        | UnsetType
    ) = UNSET
    classes: (
        Annotated[Classes, Meta(description="labels or ids, comma-separated or a JSON list; all by default")]
        | UnsetType
    ) = UNSET
    mask: Annotated[
        MaskEncoding, Meta(description="how masks are encoded; formats that know no png or float32 carry pixels then")
    ] = "rle"
    mask_threshold: Annotated[Share, Meta(description="least probability of a pixel of the mask")] = 0.5
    format: Annotated[Format, Meta(description="shape of the answer")] = "instances"
    image_id: Annotated[int, Meta(ge=0, le=2**53 - 1, description="goes into each entry of format=coco")] = 0

    @property
    def class_names(self) -> tuple[str | int, ...]:
        """The classes asked for: labels or ids as text, ids as numbers; () is all."""
        if self.classes is UNSET:
            return ()
        if isinstance(self.classes, int):
            return (self.classes,)
        if isinstance(self.classes, str):
            return tuple(name.strip() for name in self.classes.split(","))
        return self.classes


class JsonRequest(Options, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body ``application/json``: an image, as base64 or a data: URL, and options."""

    image: Annotated[
        str, Meta(min_length=1, description="base64, or a data: URL", extra_json_schema={"contentEncoding": "base64"})
    ]


NAMES = Options.__struct_fields__
NUMBERS = ("threshold", "max_instances", "mask_threshold", "image_id")
NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d{1,3})?", re.ASCII | re.IGNORECASE)


def parse_options(text: Iterable[tuple[str, str]], typed: Iterable[tuple[str, Any]] = ()) -> Options:
    """Return the Options that name, value pairs ask for: ``text`` from a query or a form, ``typed`` from JSON.

    Raises BadRequest, with name and value, for an unknown or repeated name and for a value that is not allowed.
    """
    read: dict[str, Any] = {}
    for pairs, as_text in ((text, True), (typed, False)):
        for name, value in pairs:
            if name not in NAMES:
                raise BadRequest(f"the option must be one of {', '.join(NAMES)}, got {shown(name)}")
            if name in read:
                raise BadRequest(f"option {name} must be given once, got it again as {shown(value)}")
            try:
                read[name] = _value(name, value, as_text)
            except (ValueError, msgspec.ValidationError, RecursionError) as error:
                raise BadRequest(f"option {name} must be {_allowed(name)}, got {shown(value)}") from error
    return Options(**read)


def _value(name: str, value: Any, as_text: bool) -> Any:
    """Return the value of one option; raises ValueError or ValidationError."""
    if as_text and name == "classes" and value.lstrip().startswith("["):
        value = json.loads(value)
    if as_text and name in NUMBERS and NUMBER.fullmatch(value):
        value = float(value)
    value = [_number(item) for item in value] if isinstance(value, list) else _number(value)
    converted = msgspec.convert(value, _types()[name])
    if name == "classes" and isinstance(converted, str) and not all(part.strip() for part in converted.split(",")):
        raise ValueError(value)
    return converted


def _number(value: Any) -> Any:
    """Return 5.0 as 5: JSON has one kind of number."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


@functools.cache
def _types() -> dict[str, Any]:
    """Return the types by name, in which UNSET is no value that can be sent."""
    hints = get_type_hints(Options, include_extras=True)
    return {name: functools.reduce(lambda a, b: a | b, _members(hint)) for name, hint in hints.items()}


def _members(hint: Any) -> list[Any]:
    union = [member for member in get_args(hint) if member is not UnsetType]
    return union if UnsetType in get_args(hint) else [hint]


def _allowed(name: str) -> str:
    """Return what an option's type allows, in words."""
    schema = msgspec.json.schema(_types()[name])
    if "enum" in schema:
        return f"one of {', '.join(get_args(get_args(_types()[name])[0]))}"
    if "minimum" in schema:
        kind = "a whole number" if schema["type"] == "integer" else "a number"
        return f"{kind} in {schema['minimum']:g}..{schema['maximum']:.16g}"
    return "labels or ids, comma-separated or a JSON list"
