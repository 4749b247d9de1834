"""The body of a POST into an encoded image and options: the image itself, a form, or JSON."""

import binascii
import io
import json
import re
from collections.abc import Iterator
from typing import IO, Any

import flask
from werkzeug.exceptions import HTTPException
from werkzeug.formparser import MultiPartParser

from handler.errors import BadRequest, TooLarge, UnsupportedMedia, shown
from handler.options import Options, parse_options

IMAGE = "image"
CHUNK_BYTES = 1 << 16
JSON_NESTED, JSON_VALUES = 100, 10_000  # a megabyte of braces takes thirty of memory, deep ones Python's whole stack
FORM_PARTS, FORM_TEXT_BYTES = 100, 500_000
BASE64 = "base64 (A-Z, a-z, 0-9, + and /, padded with =) or a data: URL with base64"
BASE64_SHOWN = 32
DATA_URL = re.compile(r"data:[^,]{0,200};base64,", re.IGNORECASE)
BLANKS = str.maketrans("", "", " \t\r\n")  # encoders for mail, Android's default among them, break lines
Pairs = list[tuple[str, Any]]


class _Object(list[tuple[str, Any]]):
    """A JSON object as its pairs, so that a name given twice is seen."""


def read_body(request: flask.Request, max_body_bytes: int) -> bytes:
    """Return the whole body. Raises BadRequest where it breaks off, TooLarge over ``max_body_bytes``.

    The request has a copy of it from then on: functions-framework reads what is left after every answer, however much
    that is. Of too long a body as much again is read and thrown away, as a client that is not yet done sending may miss
    an answer.
    """
    stream, length = request.stream, request.content_length
    request.stream = io.BytesIO()
    body = b"".join(_parts(stream, max_body_bytes + 1))
    if len(body) > max_body_bytes:
        for _ in _parts(stream, max_body_bytes):
            pass
        raise TooLarge(f"the body must be at most {max_body_bytes} bytes, got {length or 'more'}")
    if length is not None and len(body) < length:
        raise BadRequest(f"the body must be {length} bytes as declared, got {len(body)}")
    request.stream = io.BytesIO(body)
    return body


def _parts(stream: IO[bytes], size: int) -> Iterator[bytes]:
    """Yield the next ``size`` bytes, fewer where the stream ends. Raises BadRequest where it cannot be read on."""
    try:
        while size > 0 and (part := stream.read(min(size, CHUNK_BYTES))):
            yield part
            size -= len(part)
    except Exception as error:  # each web server has errors of its own for a body that is none
        raise BadRequest("the body must be as long as declared, or in whole chunks, got one that breaks off") from error


def read_request(request: flask.Request, body: bytes) -> tuple[bytes, Options]:
    """Return the encoded image and the options of a POST. Raises BadRequest, TooLarge or UnsupportedMedia."""
    coding = request.headers.get("Content-Encoding", "identity")
    if coding.lower() != "identity":
        raise UnsupportedMedia(f"the body must be sent as it is, without Content-Encoding, got {shown(coding)}")
    query = list(request.args.items(multi=True))
    if request.mimetype == "application/json":
        image, typed = _json(body)
        return image, parse_options(query, typed)
    if request.mimetype == "multipart/form-data":
        image, fields = _multipart(request, body)
        return image, parse_options([*query, *fields])
    return body, parse_options(query)


def _multipart(request: flask.Request, body: bytes) -> tuple[bytes, list[tuple[str, str]]]:
    boundary = request.mimetype_params.get("boundary", "")
    if not (boundary and boundary.isascii()):
        raise BadRequest("multipart/form-data must name its boundary in Content-Type, got none")
    parser = MultiPartParser(_in_memory, max_form_memory_size=FORM_TEXT_BYTES, max_form_parts=FORM_PARTS)
    try:
        form, files = parser.parse(io.BytesIO(body), boundary.encode(), len(body))
    except HTTPException as error:
        raise TooLarge(
            f"a form must have at most {FORM_PARTS} parts with {FORM_TEXT_BYTES} bytes of text and headers, got more"
        ) from error
    except ValueError as error:
        raise BadRequest("the multipart body must be whole and well-formed, got one that is not") from error
    fields = list(form.items(multi=True))
    parts = list(files.items(multi=True))
    if [name for name, _ in parts] != [IMAGE]:
        got = ", ".join(shown(name) for name, _ in parts[:5]) or "no file part"
        plain = " but a plain field 'image': give it a filename" if IMAGE in form else ""
        raise BadRequest(f"a multipart body must have one file part 'image', got {got}{plain}")
    return parts[0][1].read(), fields


def _in_memory(
    total_content_length: int | None,
    content_type: str | None,
    filename: str | None,
    content_length: int | None = None,
) -> io.BytesIO:
    """Return where a part is put; Werkzeug's own choice is a file on disk above 500 kB."""
    del total_content_length, content_type, filename, content_length
    return io.BytesIO()


def _json(body: bytes) -> tuple[bytes, Pairs]:
    if body.count(b"[") + body.count(b"{") > JSON_NESTED or body.count(b",") > JSON_VALUES:
        most = f"{JSON_NESTED} lists and objects and {JSON_VALUES} values"
        raise BadRequest(f"the JSON body must have at most {most}, got more")
    try:
        value = json.loads(body, object_pairs_hook=_Object, parse_constant=_refuse)
    except json.JSONDecodeError as error:
        raise BadRequest(f"the body must be JSON, got something else at character {error.pos}") from error
    except ValueError as error:
        raise BadRequest("the body must be JSON in UTF-8 with usual numbers, got another text") from error
    if not isinstance(value, _Object):
        raise BadRequest(f"the JSON body must be an object with 'image', got {shown(value)}")
    images = [given for name, given in value if name == IMAGE]
    if len(images) != 1:
        raise BadRequest(f"the JSON body must have 'image' once, got it {len(images)} times")
    return _base64(images[0]), [(name, _plain(given)) for name, given in value if name != IMAGE]


def _plain(value: Any) -> Any:
    return dict(value) if isinstance(value, _Object) else value


def _refuse(constant: str) -> None:
    raise ValueError(constant)


def _base64(text: Any) -> bytes:
    """Return the bytes of base64 text, which may be a data: URL and have line breaks; raises BadRequest."""
    if not isinstance(text, str):
        raise BadRequest(f"image must be {BASE64}, got {shown(_plain(text))}")
    text = text.lstrip()
    start = DATA_URL.match(text)
    try:
        return binascii.a2b_base64(text[start.end() if start else 0 :].translate(BLANKS), strict_mode=True)
    except ValueError as error:
        rest = " ..." if len(text) > BASE64_SHOWN else ""  # not more: it is somebody's picture
        raise BadRequest(f"image must be {BASE64}, got {text[:BASE64_SHOWN]!r}{rest}") from error
