"""Structured logs: one JSON object per line on stderr, with the field names of Google Cloud Logging."""

import logging
import re
import sys
import traceback
from datetime import UTC, datetime
from typing import Any, Protocol

import msgspec

NAME = "segment"  # the parent of all loggers in handler
TRACE = "logging.googleapis.com/trace"
SPAN = "logging.googleapis.com/spanId"
TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}")
CLOUD_TRACE = re.compile(r"([0-9a-fA-F]{32})(?:/(\d{1,20}))?(?:;.*)?")
SEVERITIES = {logging.DEBUG: "DEBUG", logging.INFO: "INFO", logging.WARNING: "WARNING", logging.ERROR: "ERROR"}


class _Headers(Protocol):
    """The part of a request's headers that is used here; WSGI headers are no Mapping."""

    def get(self, name: str, default: str, /) -> str:
        """Return a header's value."""


class JsonLines(logging.Handler):
    """Writes records as JSON. Entries of ``extra={"fields": {...}}`` become fields beside the message."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line to the current sys.stderr, which functions-framework replaces for each request."""
        try:
            sys.stderr.write(format_line(record))
        except Exception:  # noqa: BLE001 - a request must not fail because of its log line
            self.handleError(record)


def format_line(record: logging.LogRecord) -> str:
    """Return the record as one line of JSON."""
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
    """Write the function's log, from level INFO, to stderr as JSON. Calling it again changes nothing."""
    logger = logging.getLogger(NAME)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    if not any(isinstance(handler, JsonLines) for handler in logger.handlers):
        logger.addHandler(JsonLines())


def trace_fields(headers: _Headers, project: str) -> dict[str, str]:
    """Return the fields that link a log line to its trace, from ``traceparent`` or ``X-Cloud-Trace-Context``.

    ``project``: the Google Cloud project of the trace. If it is empty, the field holds the trace id alone.
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
