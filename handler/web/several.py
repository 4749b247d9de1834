"""Several images in one request: each gets the answer that it would get alone, or a problem in its place."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import flask

from handler.web.schemas import JSON, MODEL_BYTES, NDJSON

AT_ONCE = 4  # images of one request, so that it does not take the turns of all others
SUMS = ("instances", "model_bytes_up", "model_bytes_down", "model_repeats")

Answer = tuple[bytes, dict[str, Any]]  # JSON, and fields of the log


def headers(fields: dict[str, Any]) -> dict[str, str]:
    """Return the headers that tell time and bytes, from the fields of the log."""
    return {
        "Server-Timing": ", ".join(f"{name};dur={took:.2f}" for name, took in fields["stages_ms"].items()),
        MODEL_BYTES: f"up={fields['model_bytes_up']}, down={fields['model_bytes_down']}",
    }


def response(
    images: Sequence[bytes], answer: Callable[[bytes], Answer], log_fields: dict[str, Any], *, lines: bool
) -> flask.Response:
    """Return the answers in the order of the images: a JSON list or, with ``lines``, each as a line once it is ready.

    ``log_fields`` gets the sums over all images when the last answer is there.
    """
    bodies = _answers(images, answer, log_fields)
    if lines:
        return flask.Response((_counted(body + b"\n", log_fields) for body in bodies), mimetype=NDJSON)
    whole = b"[" + b",".join(bodies) + b"]"
    return flask.Response(whole, mimetype=JSON, headers=headers(log_fields))


def _counted(line: bytes, log_fields: dict[str, Any]) -> bytes:
    log_fields["bytes_down"] = log_fields.get("bytes_down", 0) + len(line)
    return line


def _answers(images: Sequence[bytes], answer: Callable[[bytes], Answer], log_fields: dict[str, Any]) -> Iterator[bytes]:
    log_fields |= {"images": len(images), "images_failed": 0, "stages_ms": {}, **dict.fromkeys(SUMS, 0)}
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for body, fields in pool.map(answer, images):
            _add(fields, log_fields)
            yield body


def _add(fields: dict[str, Any], log_fields: dict[str, Any]) -> None:
    """Add the fields of one image to those of the request. Of failures, the log has the first one."""
    if "stages_ms" not in fields:
        log_fields["images_failed"] += 1
        if log_fields["images_failed"] == 1:
            log_fields |= fields
        return
    for name, value in fields.items():
        if name in SUMS:
            log_fields[name] += value
        elif name == "stages_ms":
            sums = log_fields[name]
            log_fields[name] = {stage: round(sums.get(stage, 0.0) + took, 2) for stage, took in value.items()}
        else:
            log_fields[name] = value
