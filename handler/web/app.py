"""HTTP on one side, bytes and Options on the other: routing, answers, errors, and one log line per request."""

import logging
import re
import time
import uuid
from typing import Any

import flask
import msgspec

from handler.errors import BackendError, MethodNotAllowed, NotFound, SegmentError, Unauthorized, quoted
from handler.log import trace_fields
from handler.options import Options
from handler.pipeline import Result
from handler.web import cors, formats, gzip
from handler.web.auth import KEY_HEADER, check_key
from handler.web.bodies import read_body, read_request
from handler.web.load import Load
from handler.web.routes import PAGES, ROOT, Rules, Service, methods
from handler.web.schemas import HTML, JSON, MODEL_BYTES, PROBLEM, Problem

logger = logging.getLogger("segment.web")
REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")


def handle(request: flask.Request, service: Service, rules: Rules, load: Load) -> flask.Response:
    """Return the response to any request. An error becomes a problem+json with the request's id."""
    started_s = time.perf_counter()
    request_id = _request_id(request)
    log_fields: dict[str, Any] = {"request_id": request_id, **trace_fields(request.headers, rules.project)}
    unexpected = None
    try:
        response = _route(request, service, rules, load, log_fields)
    except SegmentError as error:
        response = _problem_response(error, request_id)
        log_fields["detail"] = error.detail
        if isinstance(error, BackendError) and error.reason:
            log_fields["reason"] = error.reason
    except Exception as error:  # noqa: BLE001 - logged below, with its traceback
        unexpected = error
        response = _problem_response(
            SegmentError("the service failed; its log has the details under the request id"), request_id
        )
    response.headers["X-Request-Id"] = request_id
    response.headers["X-Content-Type-Options"] = "nosniff"
    cors.add_headers(request, response, rules.cors_origins, methods(request.path), rules.cors_headers)
    gzip.compress(request, response)
    sent = 0 if request.method == "HEAD" else response.content_length or 0
    log_fields |= {"status": response.status_code, "bytes_down": sent}
    log_fields["duration_ms"] = _round_ms(time.perf_counter() - started_s)
    level = logging.INFO if response.status_code < 400 else logging.WARNING
    text = f"{request.method} {request.path} {response.status_code}"
    logger.log(
        logging.ERROR if response.status_code >= 500 else level, text, exc_info=unexpected, extra={"fields": log_fields}
    )
    return response


def _route(
    request: flask.Request, service: Service, rules: Rules, load: Load, log_fields: dict[str, Any]
) -> flask.Response:
    """Return the response to a request, and add to ``log_fields``. Raises SegmentError if it is not valid."""
    with load.body() as keep:
        log_fields["bytes_up"] = request.content_length or 0  # the declared length, in case reading fails
        body = read_body(request, rules.max_body_bytes, keep)
        log_fields["bytes_up"] = len(body)
        offered = methods(request.path)
        if request.method == "OPTIONS":
            response = flask.Response(status=204, headers={"Allow": offered})
            del response.headers["Content-Type"]
            return response
        if request.method not in offered.split(", ") and request.method not in ("GET", "HEAD"):
            raise MethodNotAllowed(f"the method must be one of {offered}, got {quoted(request.method)}", offered)
        page = PAGES.get(request.path)
        if request.method == "POST" or (page is not None and page.locked):
            check_key(request, rules.api_keys)
        if request.method == "POST":
            data, options = read_request(request, body)
            answer_format = formats.find(options.format)
            with load.turn():
                result = service.segment(data, options, answer_format.encoder(options.mask))
                return _answer_response(result, options, answer_format, service.model, log_fields)
        if page is None:
            raise NotFound(f"the path must be one of {', '.join(PAGES)}, got {quoted(request.path)}")
        if page is PAGES[ROOT] and rules.page and request.accept_mimetypes.best_match((JSON, HTML)) == HTML:
            return _html_response()
        content = page.read(service, rules, request.args)
        response = flask.Response(
            content if isinstance(content, bytes) else msgspec.json.encode(content), mimetype=JSON
        )
        if page is PAGES[ROOT]:
            response.vary.add("Accept")
        return response


def _html_response() -> flask.Response:
    """Return the page for browsers. It is assembled on first use, so that it costs nothing at the start."""
    from handler import page  # noqa: PLC0415 - see above

    text, policy = page.document()
    response = flask.Response(text, mimetype=HTML)
    response.headers["Content-Security-Policy"] = policy
    response.headers["Referrer-Policy"] = "no-referrer"
    response.vary.add("Accept")
    return response


def _answer_response(
    result: Result, options: Options, answer_format: formats.AnswerFormat, model: str, log_fields: dict[str, Any]
) -> flask.Response:
    """Return the instances, with the time of each stage as a header, and add to ``log_fields``."""
    started_s = time.perf_counter()
    response = flask.Response(msgspec.json.encode(answer_format.answer(result, options, model)), mimetype=JSON)
    stages_ms = {name: 1000 * seconds for name, seconds in result.durations_s.items()}
    stages_ms["encode"] += 1000 * (time.perf_counter() - started_s)
    response.headers["Server-Timing"] = ", ".join(f"{name};dur={took:.2f}" for name, took in stages_ms.items())
    response.headers[MODEL_BYTES] = f"up={result.up_bytes}, down={result.down_bytes}"
    log_fields |= {
        "model": model,
        "model_version": result.version,
        "instances": len(result.instances),
        "model_bytes_up": result.up_bytes,
        "model_bytes_down": result.down_bytes,
        "model_repeats": result.repeats,
        "image_transport": result.way.transport,
        "image_transport_why": result.way.why,
        "stages_ms": {name: round(took, 2) for name, took in stages_ms.items()},
    }
    return response


def _problem_response(error: SegmentError, request_id: str) -> flask.Response:
    problem = Problem(error.title, error.status, error.detail, request_id)
    response = flask.Response(msgspec.json.encode(problem), status=error.status, mimetype=PROBLEM)
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


def _round_ms(seconds: float) -> float:
    return round(1000 * seconds, 2)
