"""What the tests of the interface send, and what they make of an answer."""

import base64
import json

from tests.http.scenes import png

PNG = png()
BOUNDARY = "a-boundary"
FORM = f"multipart/form-data; boundary={BOUNDARY}"


def form(*parts):
    """Return a multipart body of (name, filename or None, bytes)."""
    lines = []
    for name, filename, value in parts:
        file = f'; filename="{filename}"' if filename else ""
        lines += [
            b"--" + BOUNDARY.encode(),
            f'Content-Disposition: form-data; name="{name}"{file}'.encode(),
            b"",
            value,
        ]
    return b"\r\n".join([*lines, b"--" + BOUNDARY.encode() + b"--", b""])


def post_form(function, *parts, query="", headers=()):
    return function.post(form(*parts), query, FORM, headers)


def post_json(function, value, query=""):
    return function.post(json.dumps(value).encode(), query, "application/json")


def encoded(data=PNG):
    return base64.b64encode(data).decode()


def ok(answer):
    assert answer.status == 200, answer.body
    assert answer.headers["content-type"] == "application/json"
    return answer.json()


def problem(answer, status):
    assert answer.status == status, answer.body
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert set(body) == {"type", "title", "status", "detail", "request_id"}
    assert body["status"] == status
    assert body["request_id"] == answer.headers["x-request-id"]
    return body["detail"]
