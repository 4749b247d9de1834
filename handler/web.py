"""HTTP on one side, bytes and Options on the other: routes, bodies, answers and errors."""

import io
import logging
import re
import uuid
from collections.abc import Callable
from typing import IO, Protocol

import flask
from werkzeug.exceptions import HTTPException

from handler import formats
from handler.contract import ModelContract
from handler.errors import (
    BackendError,
    BadRequest,
    ImageTooLarge,
    MethodNotAllowed,
    NotFound,
    SegmentError,
    UnsupportedMedia,
)
from handler.options import parse_options
from handler.pipeline import Options, Result

logger = logging.getLogger("segment")
REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")
JSON, PROBLEM = "application/json", "application/problem+json"
CHUNK_BYTES = 1 << 16
INDEX = {
    "service": "segment",
    "endpoints": {
        "POST /": "an image as the body, or as multipart part 'image': its instances",
        "GET /health": "200 while the process runs",
        "GET /ready": "200 when the model is available",
        "GET /model": "the model contract in force",
    },
}


class Service(Protocol):
    """What the web needs from the function behind it."""

    model: str

    def segment(self, data: bytes, options: Options) -> Result:
        """Answer for an encoded image."""

    def ready(self) -> int:
        """Return the version that is served."""

    def contract(self) -> tuple[ModelContract, int]:
        """Return the contract in force and its version."""


def handle(request: flask.Request, service: Service, max_body_bytes: int) -> flask.Response:
    """Return the answer to any request; every failure is a problem+json with the request's id."""
    request_id = _request_id(request)
    try:
        body = read_body(request, max_body_bytes)
        response = _route(request, body, service)
    except SegmentError as error:
        reason = f" ({error.reason})" if isinstance(error, BackendError) and error.reason else ""
        logger.warning("%s: %d %s%s", request_id, error.status, error.detail, reason)
        response = _problem(error, request_id)
    except Exception:
        logger.exception("%s: a defect", request_id)
        response = _problem(SegmentError("the service failed; its log has more under the request id"), request_id)
    response.headers["X-Request-Id"] = request_id
    return response


def read_body(request: flask.Request, max_body_bytes: int) -> bytes:
    """Return the whole body. Raises BadRequest where it breaks off, ImageTooLarge over ``max_body_bytes``.

    The request has a copy of it from then on: functions-framework reads what is left after every answer, however much
    that is. Of too long a body as much again is read and thrown away, as a client that is not yet done sending may miss
    an answer.
    """
    stream, length = request.stream, request.content_length
    request.stream = io.BytesIO()
    try:
        body = _take(stream, max_body_bytes + 1)
        if len(body) > max_body_bytes:
            _take(stream, max_body_bytes)
            raise ImageTooLarge(f"the body must be at most {max_body_bytes} bytes, got {length or 'more'}")
    except (OSError, HTTPException) as error:
        raise BadRequest("the body must be as long as declared, or in whole chunks, got one that breaks off") from error
    if length is not None and len(body) < length:
        raise BadRequest(f"the body must be {length} bytes as declared, got {len(body)}")
    request.stream = io.BytesIO(body)
    return body


def _take(stream: IO[bytes], size: int) -> bytes:
    """Return the next ``size`` bytes, fewer where the stream ends."""
    parts = []
    while size > 0 and (part := stream.read(min(size, CHUNK_BYTES))):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _route(request: flask.Request, body: bytes, service: Service) -> flask.Response:
    pages: dict[str, Callable[[], bytes]] = {
        "/": lambda: formats.plain_json(INDEX),
        "/health": lambda: formats.plain_json({"status": "ok"}),
        "/ready": lambda: formats.ready_json(service.model, service.ready()),
        "/model": lambda: formats.model_json(service.model, *service.contract()),
    }
    page = pages.get(request.path)
    if request.method in ("GET", "HEAD"):
        if page is None:
            raise NotFound(f"the path must be one of {', '.join(pages)}, got {request.path!r}")
        return flask.Response(page(), mimetype=JSON)
    if request.method != "POST" or (page is not None and request.path != "/"):
        allowed = "POST" if page is None else "GET, HEAD, POST" if request.path == "/" else "GET, HEAD"
        raise MethodNotAllowed(f"the method must be one of {allowed}, got {request.method}", allowed)
    data, options = read_request(request, body)
    return _answer(service.segment(data, options), service.model)


def read_request(request: flask.Request, body: bytes) -> tuple[bytes, Options]:
    """Return the encoded image and the options of a POST. Raises BadRequest or UnsupportedMedia."""
    pairs = list(request.args.items(multi=True))
    if request.mimetype == "application/json":
        raise UnsupportedMedia("the body must be an image or multipart/form-data, got application/json")
    if request.mimetype == "multipart/form-data":
        body, fields = _multipart(request)
        pairs += fields
    return body, parse_options(pairs)


def _multipart(request: flask.Request) -> tuple[bytes, list[tuple[str, str]]]:
    if not request.mimetype_params.get("boundary"):
        raise BadRequest("multipart/form-data must name its boundary in Content-Type, got none")
    try:
        files = list(request.files.items(multi=True))
        fields = list(request.form.items(multi=True))
    except HTTPException as error:
        raise BadRequest(f"the multipart body cannot be read: {error.name}") from error
    if [name for name, _ in files] != ["image"]:
        got = ", ".join(repr(name) for name, _ in files) or "no file part"
        raise BadRequest(f"a multipart body must have one file part 'image', got {got}")
    return files[0][1].read(), fields


def _answer(result: Result, model: str) -> flask.Response:
    response = flask.Response(formats.instances_json(result, model), mimetype=JSON)
    stages = result.durations_s.items()
    response.headers["Server-Timing"] = ", ".join(f"{name};dur={1000 * seconds:.2f}" for name, seconds in stages)
    return response


def _problem(error: SegmentError, request_id: str) -> flask.Response:
    response = flask.Response(formats.problem_json(error, request_id), status=error.status, mimetype=PROBLEM)
    if error.retry_after_s is not None:
        response.headers["Retry-After"] = str(error.retry_after_s)
    if isinstance(error, MethodNotAllowed):
        response.headers["Allow"] = error.allowed
    return response


def _request_id(request: flask.Request) -> str:
    sent = request.headers.get("X-Request-Id", "")
    return sent if REQUEST_ID.fullmatch(sent) else uuid.uuid4().hex
