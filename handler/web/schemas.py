"""The JSON types of all answers but instances. They both encode the answers and describe them in /openapi.json.

The types of instances are in :mod:`handler.web.formats`, one file per format. Coordinates are pixels of the image as
sent, after its EXIF orientation: x to the right, y down.
"""

from typing import Annotated

from msgspec import Meta

from handler.masks.schemas import Side, Value
from handler.model.contract import ModelContract

JSON, PROBLEM, HTML = "application/json", "application/problem+json", "text/html"
NDJSON = "application/x-ndjson"  # one JSON value a line
MODEL_BYTES = "X-Model-Bytes"  # header of an answer: what the call of the model sent and received

Pixels = Annotated[int, Meta(ge=0)]
Score = Annotated[float, Meta(ge=0, le=1)]


class ImageSize(Value, frozen=True):
    """Size of the image as sent, after its EXIF orientation, in pixels."""

    width: Side
    height: Side


class Model(Value, frozen=True):
    """The model that answered."""

    name: str
    version: int


class Problem(Value, frozen=True):
    """``application/problem+json``, RFC 9457: what was expected, then what came."""

    title: str
    status: int
    detail: str
    request_id: str
    type: str = "about:blank"


class Index(Value, frozen=True):
    """The name of the service and its endpoints."""

    service: str
    endpoints: dict[str, str]


class Health(Value, frozen=True):
    """The process runs."""

    status: str = "ok"


class Ready(Value, frozen=True):
    """The model is available."""

    model: Model
    status: str = "ready"


class ModelAnswer(Value, frozen=True):
    """The model contract in use, and the version that it belongs to."""

    model: Model
    contract: ModelContract
