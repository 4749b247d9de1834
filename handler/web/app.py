"""HTTP on one side, bytes and Options on the other: routing, answers, errors, and one log line per request."""

import logging
import re
import time
import uuid
from contextlib import ExitStack
from typing import Any

import flask
import msgspec

from handler.errors import BackendError, MethodNotAllowed, NotFound, SegmentError, Unauthorized, quoted
from handler.log import trace_fields
from handler.model.detections import class_ids
from handler.options import Options
from handler.web import cors, formats, gzip, several
from handler.web.auth import KEY_HEADER, check_key
from handler.web.bodies import Sent, read_body, read_request
from handler.web.load import Load
from handler.web.routes import PAGES, ROOT, Rules, Service, methods
from handler.web.schemas import HTML, JSON, NDJSON, PROBLEM, Problem
from handler.web.several import Answer

logger = logging.getLogger("segment.web")
DEFECT = SegmentError("the service failed; its log has the details under the request id")
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
        log_fields |= _failure(error)
    except Exception as error:  # noqa: BLE001 - logged below, with its traceback
        unexpected = error
        response = _problem_response(DEFECT, request_id)
    response.headers["X-Request-Id"] = request_id
    response.headers["X-Content-Type-Options"] = "nosniff"
    cors.add_headers(request, response, rules.cors_origins, methods(request.path), rules.cors_headers)
    if response.is_streamed:  # its end is that of the request
        response.call_on_close(lambda: _log(request, response, log_fields, started_s))
    else:
        gzip.compress(request, response)
        log_fields["bytes_down"] = 0 if request.method == "HEAD" else response.content_length or 0
        _log(request, response, log_fields, started_s, unexpected)
    return response


def _log(
    request: flask.Request,
    response: flask.Response,
    log_fields: dict[str, Any],
    started_s: float,
    unexpected: Exception | None = None,
) -> None:
    """Write the line of a request. ``unexpected``: the error of a defect."""
    status = response.status_code
    log_fields |= {"status": status, "duration_ms": _round_ms(time.perf_counter() - started_s)}
    failed = status >= 400 or log_fields.get("images_failed", 0) > 0
    level = logging.ERROR if status >= 500 else logging.WARNING if failed else logging.INFO
    text = f"{request.method} {request.path} {status}"
    logger.log(level, text, exc_info=unexpected, extra={"fields": log_fields})


def _failure(error: SegmentError) -> dict[str, Any]:
    """Return what the log tells of an error."""
    reason = {"reason": error.reason} if isinstance(error, BackendError) and error.reason else {}
    return {"detail": error.detail, **reason, **error.log_fields}


def _route(
    request: flask.Request, service: Service, rules: Rules, load: Load, log_fields: dict[str, Any]
) -> flask.Response:
    """Return the response to a request, and add to ``log_fields``. Raises SegmentError if it is not valid."""
    with ExitStack() as stack:
        keep = stack.enter_context(load.body())
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
            sent = read_request(request, body, rules.max_images)
            response = _answer_request(request, sent, service, load, log_fields)
            if response.is_streamed:
                response.call_on_close(stack.pop_all().close)
            return response
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


def _answer_request(
    request: flask.Request, sent: Sent, service: Service, load: Load, log_fields: dict[str, Any]
) -> flask.Response:
    """Return the answer to an image, or the list of answers to several; add to ``log_fields``."""
    answer_format = formats.find(sent.options.format)

    def answer(data: bytes) -> Answer:
        with load.turn():
            return _answer(data, sent.options, answer_format, service)

    lines = request.accept_mimetypes.best_match((JSON, NDJSON)) == NDJSON
    if not (sent.several or lines):
        body, fields = answer(sent.images[0])
        log_fields |= fields
        return flask.Response(body, mimetype=JSON, headers=several.headers(fields))

    if sent.options.class_names:  # an unknown one is an error of the whole request
        class_ids(sent.options.class_names, service.contract()[0])

    def answer_or_problem(data: bytes) -> Answer:
        try:
            return answer(data)
        except SegmentError as error:
            return _problem(error, log_fields["request_id"]), _failure(error)
        except Exception as error:
            logger.exception("an image of several failed", exc_info=error, extra={"fields": log_fields})
            return _problem(DEFECT, log_fields["request_id"]), _failure(DEFECT)

    return several.response(sent.images, answer_or_problem, log_fields, lines=lines)


def _answer(data: bytes, options: Options, answer_format: formats.AnswerFormat, service: Service) -> Answer:
    """Return the instances in an image as JSON, and what the log tells of them."""
    result = service.segment(data, options, answer_format.encoder(options.mask))
    started_s = time.perf_counter()
    body = msgspec.json.encode(answer_format.answer(result, options, service.model))
    stages_ms = {name: 1000 * seconds for name, seconds in result.durations_s.items()}
    stages_ms["encode"] += 1000 * (time.perf_counter() - started_s)
    return body, {
        "model": service.model,
        "model_version": result.version,
        "instances": len(result.instances),
        "model_bytes_up": result.up_bytes,
        "model_bytes_down": result.down_bytes,
        "model_repeats": result.repeats,
        **result.way.log_fields,
        "stages_ms": {name: round(took, 2) for name, took in stages_ms.items()},
    }


def _problem(error: SegmentError, request_id: str) -> bytes:
    return msgspec.json.encode(Problem(error.title, error.status, error.detail, request_id))


def _problem_response(error: SegmentError, request_id: str) -> flask.Response:
    response = flask.Response(_problem(error, request_id), status=error.status, mimetype=PROBLEM)
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
