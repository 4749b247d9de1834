"""The options of a request. Their types both check the values and describe them in /openapi.json."""

import functools
import json
import re
from collections.abc import Iterable
from typing import Annotated, Any, Literal, get_args, get_type_hints

import msgspec
from msgspec import UNSET, Meta, UnsetType

from handler.errors import BadRequest, quoted

MaskEncoding = Literal["rle", "polygon", "png", "float32", "none"]
Format = Literal["instances", "coco", "cvat", "roboflow"]  # one file each in handler/web/formats
UnitInterval = Annotated[float, Meta(ge=0, le=1)]
Classes = (
    Annotated[tuple[Annotated[str, Meta(min_length=1)] | Annotated[int, Meta(ge=1)], ...], Meta(min_length=1)]
    | Annotated[str, Meta(min_length=1)]
    | Annotated[int, Meta(ge=1)]
)


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The options of one request."""

    threshold: Annotated[UnitInterval, Meta(description="least score of an instance")] = 0.0
    max_instances: (
        Annotated[int, Meta(ge=1, le=1000, description="at most so many instances, best scores first; all by default")]
        | UnsetType
    ) = UNSET
    classes: (
        Annotated[Classes, Meta(description="labels or ids, comma-separated or a JSON list; all by default")]
        | UnsetType
    ) = UNSET
    mask: Annotated[
        MaskEncoding, Meta(description="how masks are encoded; formats without png or float32 return pixels instead")
    ] = "rle"
    mask_threshold: Annotated[UnitInterval, Meta(description="least probability of a pixel of the mask")] = 0.5
    format: Annotated[Format, Meta(description="shape of the answer")] = "instances"
    image_id: Annotated[int, Meta(ge=0, le=2**53 - 1, description="goes into each entry of format=coco")] = 0

    @property
    def class_names(self) -> tuple[str | int, ...]:
        """The requested classes: labels or ids as text, ids as numbers; () for all."""
        if self.classes is UNSET:
            return ()
        if isinstance(self.classes, int):
            return (self.classes,)
        if isinstance(self.classes, str):
            return tuple(name.strip() for name in self.classes.split(","))
        return self.classes


Base64 = Annotated[
    str, Meta(min_length=1, description="base64, or a data: URL", extra_json_schema={"contentEncoding": "base64"})
]


class JsonRequest(Options, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body ``application/json``: an image or a list of images, as base64 or data: URLs, and options."""

    image: Annotated[Base64 | Annotated[list[Base64], Meta(min_length=1)], Meta(description="an image, or several")]


NAMES = Options.__struct_fields__
NUMBERS = ("threshold", "max_instances", "mask_threshold", "image_id")
NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d{1,3})?", re.ASCII | re.IGNORECASE)


def parse_options(text: Iterable[tuple[str, str]], typed: Iterable[tuple[str, Any]] = ()) -> Options:
    """Return the Options for (name, value) pairs: ``text`` from a query or a form, ``typed`` from JSON.

    Raises BadRequest, with name and value, if a name is unknown or repeated or a value is not allowed.
    """
    read: dict[str, Any] = {}
    for pairs, as_text in ((text, True), (typed, False)):
        for name, value in pairs:
            if name not in NAMES:
                raise BadRequest(f"the option must be one of {', '.join(NAMES)}, got {quoted(name)}")
            if name in read:
                raise BadRequest(f"option {name} must be given once, got it again as {quoted(value)}")
            try:
                read[name] = _convert(name, value, as_text)
            except (ValueError, msgspec.ValidationError, RecursionError) as error:
                raise BadRequest(f"option {name} must be {_describe_allowed(name)}, got {quoted(value)}") from error
    return Options(**read)


def _convert(name: str, value: Any, as_text: bool) -> Any:
    """Return the value of one option. Raises ValueError or ValidationError if it is not allowed."""
    if as_text and name == "classes" and value.lstrip().startswith("["):
        value = json.loads(value)
    if as_text and name in NUMBERS and NUMBER.fullmatch(value):
        value = float(value)
    value = [_whole_as_int(item) for item in value] if isinstance(value, list) else _whole_as_int(value)
    converted = msgspec.convert(value, _option_types()[name])
    if name == "classes" and isinstance(converted, str) and not all(part.strip() for part in converted.split(",")):
        raise ValueError(value)
    return converted


def _whole_as_int(value: Any) -> Any:
    """Return 5.0 as 5, because JSON does not distinguish them."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


@functools.cache
def _option_types() -> dict[str, Any]:
    """Return the option types by name, without UNSET, which no client can send."""
    hints = get_type_hints(Options, include_extras=True)
    return {name: functools.reduce(lambda a, b: a | b, _union_members(hint)) for name, hint in hints.items()}


def _union_members(hint: Any) -> list[Any]:
    union = [member for member in get_args(hint) if member is not UnsetType]
    return union if UnsetType in get_args(hint) else [hint]


def _describe_allowed(name: str) -> str:
    """Return what an option allows, in words for an error."""
    schema = msgspec.json.schema(_option_types()[name])
    if "enum" in schema:
        return f"one of {', '.join(get_args(get_args(_option_types()[name])[0]))}"
    if "minimum" in schema:
        kind = "a whole number" if schema["type"] == "integer" else "a number"
        return f"{kind} in {schema['minimum']:g}..{schema['maximum']:.16g}"
    return "labels or ids, comma-separated or a JSON list"
