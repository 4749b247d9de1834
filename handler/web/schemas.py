"""The JSON that leaves the function beside instances, declared once: the types encode answers and describe them.

Those of instances stand with their format, in :mod:`handler.web.formats`.

Coordinates are pixels of the image as sent, after its EXIF orientation: x to the right, y down.
"""

from typing import Annotated

from msgspec import Meta

from handler.masks.schemas import Side, Value
from handler.model.contract import ModelContract

JSON, PROBLEM = "application/json", "application/problem+json"

Pixels = Annotated[int, Meta(ge=0)]
Score = Annotated[float, Meta(ge=0, le=1)]


class ImageSize(Value, frozen=True):
    """Size of the image as sent, after its EXIF orientation, in pixels."""

    width: Side
    height: Side


class Model(Value, frozen=True):
    """Which model answered."""

    name: str
    version: int


class Problem(Value, frozen=True):
    """``application/problem+json``, RFC 9457: what was expected and what came."""

    title: str
    status: int
    detail: str
    request_id: str
    type: str = "about:blank"


class Index(Value, frozen=True):
    """What this service is and what it offers."""

    service: str
    endpoints: dict[str, str]


class Health(Value, frozen=True):
    """The process runs."""

    status: str = "ok"


class Ready(Value, frozen=True):
    """The model can be asked."""

    model: Model
    status: str = "ready"


class ModelAnswer(Value, frozen=True):
    """The contract in force and the version that stated it."""

    model: Model
    contract: ModelContract
