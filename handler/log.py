"""Structured logs: one JSON object a line on stderr, in the field names that Google Cloud Logging knows."""

import logging
import re
import sys
import traceback
from datetime import UTC, datetime
from typing import Any, Protocol

import msgspec

NAME = "segment"  # of the logger; its children's records come out here too
TRACE = "logging.googleapis.com/trace"
SPAN = "logging.googleapis.com/spanId"
TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}")
CLOUD_TRACE = re.compile(r"([0-9a-fA-F]{32})(?:/(\d{1,20}))?(?:;.*)?")
SEVERITIES = {logging.DEBUG: "DEBUG", logging.INFO: "INFO", logging.WARNING: "WARNING", logging.ERROR: "ERROR"}


class _Headers(Protocol):
    """What is needed of a request's headers: WSGI's are no Mapping."""

    def get(self, name: str, default: str, /) -> str:
        """Return a header's value."""


class JsonLines(logging.Handler):
    """Writes records as JSON; what ``extra={"fields": {...}}`` holds becomes fields beside the message."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line to what is sys.stderr now: functions-framework exchanges it for each request."""
        try:
            sys.stderr.write(format_line(record))
        except Exception:  # noqa: BLE001 - a log that cannot be written must not fail the request; logging says so itself
            self.handleError(record)


def format_line(record: logging.LogRecord) -> str:
    """Return the record as a line of JSON."""
    line: dict[str, Any] = {
        "severity": SEVERITIES.get(record.levelno, record.levelname),
        "message": record.getMessage(),
        "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
        "logger": record.name,
        **getattr(record, "fields", {}),
    }
    if record.exc_info and record.exc_info[1]:
        line["stack_trace"] = "".join(traceback.format_exception(record.exc_info[1]))
    return msgspec.json.encode(line).decode() + "\n"


def configure() -> None:
    """Send what the function logs, from INFO up, to stderr as JSON; once, however often it is called."""
    logger = logging.getLogger(NAME)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    if not any(isinstance(handler, JsonLines) for handler in logger.handlers):
        logger.addHandler(JsonLines())


def trace_fields(headers: _Headers, project: str) -> dict[str, str]:
    """Return the fields that put a line under its request's trace: from ``traceparent`` or X-Cloud-Trace-Context.

    ``project``: the Google Cloud project that the trace is in; without one, the id stands alone.
    """
    parent = TRACEPARENT.fullmatch(headers.get("traceparent", ""))
    cloud = CLOUD_TRACE.fullmatch(headers.get("X-Cloud-Trace-Context", ""))
    if parent:
        trace, span = parent[1], parent[2]
    elif cloud:
        trace, span = cloud[1], f"{int(cloud[2] or 0):016x}"
    else:
        return {}
    return {TRACE: f"projects/{project}/traces/{trace}" if project else trace, SPAN: span}
