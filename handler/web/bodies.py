"""The body of a POST -> an encoded image and options. The body is the image itself, a form, or JSON."""

import binascii
import io
import json
import re
from collections.abc import Iterator
from typing import IO, Any

import flask
from werkzeug.exceptions import HTTPException
from werkzeug.formparser import MultiPartParser

from handler.errors import BadRequest, TooLarge, UnsupportedMedia, quoted
from handler.options import Options, parse_options

IMAGE = "image"
CHUNK_BYTES = 1 << 16
JSON_MAX_CONTAINERS = 100  # a megabyte of braces takes 30 MB of memory; if nested, it fills Python's stack
JSON_MAX_VALUES = 10_000
FORM_MAX_PARTS, FORM_MAX_TEXT_BYTES = 100, 500_000
BASE64 = "base64 (A-Z, a-z, 0-9, + and /, padded with =) or a data: URL with base64"
BASE64_QUOTED = 32  # characters in an error; not more, as the image is private
DATA_URL = re.compile(r"data:[^,]{0,200};base64,", re.IGNORECASE)
WHITESPACE = str.maketrans("", "", " \t\r\n")  # mail encoders, such as Android's default, break lines
Pairs = list[tuple[str, Any]]


class _JsonObject(list[tuple[str, Any]]):
    """A JSON object as a list of pairs, which keeps repeated names."""


def read_body(request: flask.Request, max_body_bytes: int) -> bytes:
    """Return the whole body. Raises BadRequest if it breaks off, TooLarge if it is over ``max_body_bytes``.

    The request keeps a copy instead of the stream, because functions-framework reads a stream to its end after every
    response, however long it is. If the body is too long, up to ``max_body_bytes`` more are read and discarded, or a
    client that is still sending could miss the response.
    """
    stream, length = request.stream, request.content_length
    request.stream = io.BytesIO()
    body = b"".join(_read_chunks(stream, max_body_bytes + 1))
    if len(body) > max_body_bytes:
        for _ in _read_chunks(stream, max_body_bytes):
            pass
        raise TooLarge(f"the body must be at most {max_body_bytes} bytes, got {length or 'more'}")
    if length is not None and len(body) < length:
        raise BadRequest(f"the body must be {length} bytes as declared, got {len(body)}")
    request.stream = io.BytesIO(body)
    return body


def _read_chunks(stream: IO[bytes], size: int) -> Iterator[bytes]:
    """Yield the next ``size`` bytes, or fewer if the stream ends. Raises BadRequest if it breaks off."""
    try:
        while size > 0 and (part := stream.read(min(size, CHUNK_BYTES))):
            yield part
            size -= len(part)
    except Exception as error:  # each web server raises its own errors here
        raise BadRequest("the body must have its declared length, or whole chunks, got one that breaks off") from error


def read_request(request: flask.Request, body: bytes) -> tuple[bytes, Options]:
    """Return the encoded image and the options of a POST. Raises BadRequest, TooLarge or UnsupportedMedia."""
    coding = request.headers.get("Content-Encoding", "identity")
    if coding.lower() != "identity":
        raise UnsupportedMedia(f"the body must be sent without Content-Encoding, got {quoted(coding)}")
    query = list(request.args.items(multi=True))
    if request.mimetype == "application/json":
        image, typed = _read_json(body)
        return image, parse_options(query, typed)
    if request.mimetype == "multipart/form-data":
        image, fields = _read_multipart(request, body)
        return image, parse_options([*query, *fields])
    return body, parse_options(query)


def _read_multipart(request: flask.Request, body: bytes) -> tuple[bytes, list[tuple[str, str]]]:
    boundary = request.mimetype_params.get("boundary", "")
    if not (boundary and boundary.isascii()):
        raise BadRequest("multipart/form-data must name its boundary in Content-Type, got none")
    parser = MultiPartParser(_open_part, max_form_memory_size=FORM_MAX_TEXT_BYTES, max_form_parts=FORM_MAX_PARTS)
    try:
        form, files = parser.parse(io.BytesIO(body), boundary.encode(), len(body))
    except HTTPException as error:
        raise TooLarge(
            f"a form must have at most {FORM_MAX_PARTS} parts, and {FORM_MAX_TEXT_BYTES} bytes of text and headers, "
            "got more"
        ) from error
    except ValueError as error:
        raise BadRequest("the multipart body must be complete and well-formed, got one that is not") from error
    fields = list(form.items(multi=True))
    parts = list(files.items(multi=True))
    if [name for name, _ in parts] != [IMAGE]:
        got = ", ".join(quoted(name) for name, _ in parts[:5]) or "no file part"
        plain = " but a plain field 'image': give it a filename" if IMAGE in form else ""
        raise BadRequest(f"a multipart body must have one file part 'image', got {got}{plain}")
    return parts[0][1].read(), fields


def _open_part(
    total_content_length: int | None,
    content_type: str | None,
    filename: str | None,
    content_length: int | None = None,
) -> io.BytesIO:
    """Return the buffer for a part of a form. Werkzeug would use a file on disk above 500 kB."""
    del total_content_length, content_type, filename, content_length
    return io.BytesIO()


def _read_json(body: bytes) -> tuple[bytes, Pairs]:
    if body.count(b"[") + body.count(b"{") > JSON_MAX_CONTAINERS or body.count(b",") > JSON_MAX_VALUES:
        most = f"{JSON_MAX_CONTAINERS} lists and objects and {JSON_MAX_VALUES} values"
        raise BadRequest(f"the JSON body must have at most {most}, got more")
    try:
        value = json.loads(body, object_pairs_hook=_JsonObject, parse_constant=_reject_constant)
    except json.JSONDecodeError as error:
        raise BadRequest(f"the body must be JSON, got an error at character {error.pos}") from error
    except ValueError as error:
        raise BadRequest("the body must be JSON in UTF-8, with ordinary numbers, got another text") from error
    if not isinstance(value, _JsonObject):
        raise BadRequest(f"the JSON body must be an object with 'image', got {quoted(value)}")
    images = [given for name, given in value if name == IMAGE]
    if len(images) != 1:
        raise BadRequest(f"the JSON body must have 'image' once, got it {len(images)} times")
    return _decode_base64(images[0]), [(name, _as_dict(given)) for name, given in value if name != IMAGE]


def _as_dict(value: Any) -> Any:
    return dict(value) if isinstance(value, _JsonObject) else value


def _reject_constant(constant: str) -> None:
    raise ValueError(constant)


def _decode_base64(text: Any) -> bytes:
    """Return the bytes of base64 text, which may have line breaks or be a data: URL. Raises BadRequest."""
    if not isinstance(text, str):
        raise BadRequest(f"image must be {BASE64}, got {quoted(_as_dict(text))}")
    text = text.lstrip()
    start = DATA_URL.match(text)
    try:
        return binascii.a2b_base64(text[start.end() if start else 0 :].translate(WHITESPACE), strict_mode=True)
    except ValueError as error:
        rest = " ..." if len(text) > BASE64_QUOTED else ""
        raise BadRequest(f"image must be {BASE64}, got {text[:BASE64_QUOTED]!r}{rest}") from error
