"""The pages that the function offers, by path: one list for the router, the index and /openapi.json."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import msgspec

from handler.errors import BadRequest, quoted
from handler.masks.encodings import Encoder
from handler.model.contract import ModelContract
from handler.options import Options
from handler.pipeline import Result
from handler.web import schemas

BACKEND_PROBLEMS = (502, 503, 504)  # further statuses of a page that calls the model server
Query = Mapping[str, str]


class Rules(msgspec.Struct, frozen=True):
    """The settings that apply to every request.

    ``api_keys``: a request needs one of them, () for none. ``cors_origins``, ``cors_headers``: see
    :mod:`handler.web.cors`. ``max_images``: of one request.
    ``image_kinds``: for /openapi.json. ``project``: the Google Cloud project of the logs, "" for none.
    ``page``: True if browsers get the page at ``/`` instead of the index.
    """

    api_keys: tuple[str, ...] = ()
    cors_origins: tuple[str, ...] = ()
    max_body_bytes: int = 20 << 20
    max_images: int = 16
    image_kinds: tuple[str, ...] = ("jpeg", "png", "webp")
    project: str = ""
    cors_headers: tuple[str, ...] = ()
    page: bool = True


class Service(Protocol):
    """The function behind the web."""

    model: str

    def segment(self, data: bytes, options: Options, encode: Encoder) -> Result:
        """Return the instances in an encoded image, each mask as ``encode`` returns it."""

    def ready(self) -> int:
        """Return the model version that is served."""

    def contract(self) -> tuple[ModelContract, int]:
        """Return the contract in force and its version."""


class Page(msgspec.Struct, frozen=True):
    """A page that clients GET. ``read`` returns its content: a value of type ``schema``, or bytes of JSON.

    ``problems``: statuses of its errors, besides 500. ``locked``: True if it needs an API key when keys are configured.
    """

    summary: str
    schema: Any
    read: Callable[[Service, Rules, Query], Any]
    problems: tuple[int, ...] = ()
    locked: bool = False


def _index(service: Service, rules: Rules, query: Query) -> schemas.Index:  # noqa: ARG001 - the signature of Page.read
    return schemas.Index("segment", INDEX)


def _health(service: Service, rules: Rules, query: Query) -> schemas.Health:  # noqa: ARG001
    return schemas.Health()


def _ready(service: Service, rules: Rules, query: Query) -> schemas.Ready:  # noqa: ARG001
    return schemas.Ready(schemas.Model(service.model, service.ready()))


def _model(service: Service, rules: Rules, query: Query) -> schemas.ModelAnswer:  # noqa: ARG001
    contract, version = service.contract()
    return schemas.ModelAnswer(schemas.Model(service.model, version), contract)


def _openapi(service: Service, rules: Rules, query: Query) -> bytes:  # noqa: ARG001
    from handler.web.openapi import CLIENT_PROFILE, document  # noqa: PLC0415 - rarely requested, so not at the start

    profile = query.get("profile")
    if profile is not None and profile != CLIENT_PROFILE:
        raise BadRequest(f"profile must be {CLIENT_PROFILE}, or left out, got {quoted(profile)}")
    return document(rules.image_kinds, locked=bool(rules.api_keys), client=profile is not None)


ROOT, OPENAPI = "/", "/openapi.json"
PAGES = {
    ROOT: Page("a short index; browsers get a page to try it", schemas.Index, _index),
    "/health": Page("200 while the process runs; calls no other server", schemas.Health, _health),
    "/ready": Page(
        "200 when the model is available, else 503 with the reason", schemas.Ready, _ready, BACKEND_PROBLEMS
    ),
    "/model": Page("the model contract in force", schemas.ModelAnswer, _model, BACKEND_PROBLEMS, locked=True),
    OPENAPI: Page("this interface as OpenAPI", dict[str, Any], _openapi, (400,)),
}
POST = "the instances in an image, or in several: the body, parts 'image' of a form, or base64 in JSON"
INDEX = {f"POST {ROOT}": POST, **{f"GET {path}": page.summary for path, page in PAGES.items()}}


def methods(path: str) -> str:
    """Return the methods of a path as in the header Allow. Any path that is not a page accepts images by POST."""
    if path == ROOT:
        return "GET, HEAD, OPTIONS, POST"
    return "GET, HEAD, OPTIONS" if path in PAGES else "OPTIONS, POST"
