"""HTTP on one side, bytes and Options on the other: routes, answers, errors, and one line in the log for each."""

import logging
import re
import time
import uuid
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import flask

from handler.errors import BackendError, MethodNotAllowed, NotFound, SegmentError, Unauthorized, shown
from handler.log import trace_fields
from handler.model.contract import ModelContract
from handler.options import Options
from handler.pipeline import Result
from handler.web import formats
from handler.web.access import KEY_HEADER, Access
from handler.web.bodies import read_body, read_request
from handler.web.routes import PAGES, ROOT, methods
from handler.web.schemas import JSON, PROBLEM

logger = logging.getLogger("segment.web")
REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")
GZIP_BYTES = 1400  # what fits in one packet gains nothing from being smaller
GZIP_LEVEL = 1  # on such answers two to ten times as fast as the usual 6, for up to a quarter more bytes
GZIP_SHARE = 0.9  # sent only where it is at most this share of the plain answer
GZIP_WBITS = 31  # zlib's largest window, with gzip's header


@dataclass(frozen=True, slots=True)
class Rules:
    """What the web asks of every request, the kinds of image it names, the Google Cloud project of its logs."""

    access: Access
    max_body_bytes: int
    image_kinds: tuple[str, ...]
    project: str


class Service(Protocol):
    """What the web needs from the function behind it."""

    model: str

    def segment(self, data: bytes, options: Options) -> Result:
        """Answer for an encoded image."""

    def ready(self) -> int:
        """Return the version that is served."""

    def contract(self) -> tuple[ModelContract, int]:
        """Return the contract in force and its version."""


def handle(request: flask.Request, service: Service, rules: Rules) -> flask.Response:
    """Return the answer to any request; every failure is a problem+json with the request's id."""
    started_s = time.perf_counter()
    request_id = _request_id(request)
    facts: dict[str, Any] = {"request_id": request_id, **trace_fields(request.headers, rules.project)}
    defect = None
    try:
        response = _route(request, service, rules, facts)
    except SegmentError as error:
        response = _problem(error, request_id)
        facts["detail"] = error.detail
        if isinstance(error, BackendError) and error.reason:
            facts["reason"] = error.reason
    except Exception as error:  # noqa: BLE001 - logged below with its traceback
        defect = error
        response = _problem(SegmentError("the service failed; its log has more under the request id"), request_id)
    response.headers["X-Request-Id"] = request_id
    response.headers["X-Content-Type-Options"] = "nosniff"
    rules.access.share(request, response, methods(request.path))
    _compress(request, response)
    sent = 0 if request.method == "HEAD" else response.content_length or 0
    facts |= {"status": response.status_code, "bytes_down": sent}
    facts["duration_ms"] = _ms(time.perf_counter() - started_s)
    level = logging.INFO if response.status_code < 400 else logging.WARNING
    text = f"{request.method} {request.path} {response.status_code}"
    logger.log(logging.ERROR if response.status_code >= 500 else level, text, exc_info=defect, extra={"fields": facts})
    return response


def _route(request: flask.Request, service: Service, rules: Rules, facts: dict[str, Any]) -> flask.Response:
    """Return the answer to a request that is in order; adds to ``facts`` what the log should tell of it."""
    facts["bytes_up"] = request.content_length or 0  # as declared, until it is read
    body = read_body(request, rules.max_body_bytes)
    facts["bytes_up"] = len(body)
    offered = methods(request.path)
    if request.method == "OPTIONS":
        response = flask.Response(status=204, headers={"Allow": offered})
        del response.headers["Content-Type"]
        return response
    if request.method not in offered.split(", ") and request.method not in ("GET", "HEAD"):
        raise MethodNotAllowed(f"the method must be one of {offered}, got {shown(request.method)}", offered)
    page = PAGES.get(request.path)
    if request.method == "POST" or (page is not None and page.locked):
        rules.access.check_key(request)
    if request.method == "POST":
        data, options = read_request(request, body)
        return _answer(service.segment(data, options), options, service.model, facts)
    if page is None:
        raise NotFound(f"the path must be one of {', '.join(PAGES)}, got {shown(request.path)}")
    return flask.Response(_read(request.path, service, rules), mimetype=JSON)


def _read(path: str, service: Service, rules: Rules) -> bytes:
    """Return what a page says now."""
    answers: dict[str, Callable[[], bytes]] = {
        ROOT: formats.index_json,
        "/health": formats.health_json,
        "/ready": lambda: formats.ready_json(service.model, service.ready()),
        "/model": lambda: formats.model_json(service.model, *service.contract()),
        "/openapi.json": lambda: _openapi(rules),
    }
    return answers[path]()


def _openapi(rules: Rules) -> bytes:
    from handler.web.openapi import document  # noqa: PLC0415 - it is asked for once, by a developer

    return document(rules.image_kinds, locked=bool(rules.access.api_keys))


def _answer(result: Result, options: Options, model: str, facts: dict[str, Any]) -> flask.Response:
    started_s = time.perf_counter()
    response = flask.Response(formats.result_json(result, options, model), mimetype=JSON)
    stages_ms = {name: 1000 * seconds for name, seconds in result.durations_s.items()}
    stages_ms["encode"] += 1000 * (time.perf_counter() - started_s)
    response.headers["Server-Timing"] = ", ".join(f"{name};dur={took:.2f}" for name, took in stages_ms.items())
    facts |= {
        "model": model,
        "model_version": result.version,
        "instances": len(result.instances),
        "model_bytes_up": result.up_bytes,
        "model_bytes_down": result.down_bytes,
        "stages_ms": {name: round(took, 2) for name, took in stages_ms.items()},
    }
    return response


def _compress(request: flask.Request, response: flask.Response) -> None:
    """Send gzip where the client takes it and the answer shrinks enough to be worth it."""
    plain = response.get_data()
    if len(plain) < GZIP_BYTES:
        return
    response.vary.add("Accept-Encoding")
    if request.accept_encodings["gzip"] <= 0:
        return
    packer = zlib.compressobj(GZIP_LEVEL, wbits=GZIP_WBITS)
    packed = packer.compress(plain) + packer.flush()
    if len(packed) <= GZIP_SHARE * len(plain):
        response.set_data(packed)
        response.headers["Content-Encoding"] = "gzip"


def _problem(error: SegmentError, request_id: str) -> flask.Response:
    response = flask.Response(formats.problem_json(error, request_id), status=error.status, mimetype=PROBLEM)
    if error.retry_after_s is not None:
        response.headers["Retry-After"] = str(error.retry_after_s)
    if isinstance(error, MethodNotAllowed):
        response.headers["Allow"] = error.allowed
    if isinstance(error, Unauthorized):
        response.headers["WWW-Authenticate"] = f'ApiKey header="{KEY_HEADER}"'
    return response


def _request_id(request: flask.Request) -> str:
    sent = request.headers.get("X-Request-Id", "")
    return sent if REQUEST_ID.fullmatch(sent) else uuid.uuid4().hex


def _ms(seconds: float) -> float:
    return round(1000 * seconds, 2)
