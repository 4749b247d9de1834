"""What can be read from the function, by path: the one list that the web, the index and /openapi.json go by."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from handler.masks.encodings import Encoder
from handler.model.contract import ModelContract
from handler.options import Options
from handler.pipeline import Result
from handler.web import schemas

BACKEND = (502, 503, 504)  # what a page that asks the model server can answer besides


@dataclass(frozen=True, slots=True)
class Rules:
    """What the settings ask of every request.

    ``api_keys``: any of them will do, () needs none. ``cors_origins``: see :mod:`handler.web.cors`. ``image_kinds``:
    as errors and /openapi.json name them. ``project``: the Google Cloud project of the logs, "" for none.
    """

    api_keys: tuple[str, ...] = ()
    cors_origins: tuple[str, ...] = ()
    max_body_bytes: int = 20 << 20
    image_kinds: tuple[str, ...] = ("jpeg", "png", "webp")
    project: str = ""


class Service(Protocol):
    """What the web needs from the function behind it."""

    model: str

    def segment(self, data: bytes, options: Options, encode: Encoder) -> Result:
        """Answer for an encoded image, each mask as ``encode`` returns it."""

    def ready(self) -> int:
        """Return the version that is served."""

    def contract(self) -> tuple[ModelContract, int]:
        """Return the contract in force and its version."""


@dataclass(frozen=True, slots=True)
class Page:
    """A path that is read. ``read`` returns its answer, of type ``schema``, or that as JSON.

    ``problems``: statuses it can fail with; ``locked``: whether it needs an API key if there are any.
    """

    summary: str
    schema: Any
    read: Callable[[Service, Rules], Any]
    problems: tuple[int, ...] = ()
    locked: bool = False


def _index(service: Service, rules: Rules) -> schemas.Index:  # noqa: ARG001 - a page that needs neither
    return schemas.Index("segment", INDEX)


def _health(service: Service, rules: Rules) -> schemas.Health:  # noqa: ARG001
    return schemas.Health()


def _ready(service: Service, rules: Rules) -> schemas.Ready:  # noqa: ARG001
    return schemas.Ready(schemas.Model(service.model, service.ready()))


def _model(service: Service, rules: Rules) -> schemas.ModelAnswer:  # noqa: ARG001
    contract, version = service.contract()
    return schemas.ModelAnswer(schemas.Model(service.model, version), contract)


def _openapi(service: Service, rules: Rules) -> bytes:  # noqa: ARG001
    from handler.web.openapi import document  # noqa: PLC0415 - it is asked for once, by a developer

    return document(rules.image_kinds, locked=bool(rules.api_keys))


ROOT = "/"
PAGES = {
    ROOT: Page("a short index", schemas.Index, _index),
    "/health": Page("200 while the process runs; asks nobody", schemas.Health, _health),
    "/ready": Page("200 when the model is available, else 503 with the reason", schemas.Ready, _ready, BACKEND),
    "/model": Page("the model contract in force", schemas.ModelAnswer, _model, BACKEND, locked=True),
    "/openapi.json": Page("all of this, for programs", dict[str, Any], _openapi),
}
POST = "the instances in an image: the body, the part 'image' of a form, or base64 in JSON"
INDEX = {f"POST {ROOT}": POST, **{f"GET {path}": page.summary for path, page in PAGES.items()}}


def methods(path: str) -> str:
    """Return the methods that a path offers, as the header Allow wants them; every path but a page takes images."""
    if path == ROOT:
        return "GET, HEAD, OPTIONS, POST"
    return "GET, HEAD, OPTIONS" if path in PAGES else "OPTIONS, POST"
