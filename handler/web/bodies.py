"""The body of a POST -> encoded images and options. The body is the image itself, a form, or JSON."""

import binascii
import io
import itertools
import json
import re
from collections.abc import Callable, Iterator
from typing import IO, Any

import flask
import msgspec
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge
from werkzeug.sansio.multipart import Data, Epilogue, Field, File, MultipartDecoder, NeedData

from handler.errors import BadRequest, RequestTimeout, TooLarge, UnsupportedMedia, quoted
from handler.options import Options, parse_options
from handler.web.contents import JSON_BODY, boundary_of, declared, describe_image, describe_text

IMAGE = "image"
CHUNK_BYTES = 1 << 18
JSON_MAX_CONTAINERS = 100  # a megabyte of braces takes 30 MB of memory; if nested, it fills Python's stack
JSON_MAX_VALUES = 10_000
FORM_MAX_PARTS, FORM_MAX_TEXT_BYTES = 100, 500_000
BASE64 = "base64 (A-Z, a-z, 0-9, + and /, padded with =) or a data: URL with base64"
BASE64_QUOTED = 32  # characters in an error; not more, as the image is private
DATA_URL = re.compile(r"data:[^,]{0,200};base64,", re.IGNORECASE)
WHITESPACE = str.maketrans("", "", " \t\r\n")  # mail encoders, such as Android's default, break lines
LOST_PLUS = re.compile(r"\S +\S")  # no encoder puts a space there, but a form or a URL makes one of each +
URL_SAFE = str.maketrans("-_", "+/")
NOT_BASE64 = re.compile(r"[^A-Za-z0-9+/]")
Pairs = list[tuple[str, Any]]


class Sent(msgspec.Struct, frozen=True):
    """What a client sent. ``several``: True if it sent a list, of which each image gets its own answer."""

    images: tuple[bytes, ...]
    options: Options
    several: bool = False


class _JsonObject(list[tuple[str, Any]]):
    """A JSON object as a list of pairs, which keeps repeated names."""


def read_body(request: flask.Request, max_body_bytes: int, keep: Callable[[int], None]) -> bytes:
    """Return the whole body. Raises BadRequest if it breaks off, TooLarge if it is over ``max_body_bytes``.

    Raises RequestTimeout if it comes too slowly. ``keep`` is called with the number of bytes of each part.

    The request keeps a copy instead of the stream, because functions-framework reads a stream to its end after every
    response, however long it is. If the body is too long, up to ``max_body_bytes`` more are read and discarded, or a
    client that is still sending could miss the response.
    """
    stream, length = request.stream, request.content_length
    request.stream = io.BytesIO()
    parts = []
    for part in _read_chunks(stream, max_body_bytes + 1):
        keep(len(part))
        parts.append(part)
    body = b"".join(parts)
    if len(body) > max_body_bytes:
        for _ in _read_chunks(stream, max_body_bytes):
            pass
        raise TooLarge(f"the body must be at most {max_body_bytes} bytes, got {length or 'more'}")
    if length is not None and len(body) < length:
        raise BadRequest(f"the body must be {length} bytes as declared, got {len(body)}")
    request.stream = io.BytesIO(body)
    return body


def _read_chunks(stream: IO[bytes], size: int) -> Iterator[bytes]:
    """Yield the next ``size`` bytes, or fewer if the stream ends. Raises BadRequest if it breaks off.

    Raises RequestTimeout if the client is too slow.
    """
    try:
        while size > 0 and (part := stream.read(min(size, CHUNK_BYTES))):
            yield part
            size -= len(part)
    except TimeoutError as error:
        raise RequestTimeout(str(error)) from error
    except Exception as error:  # each web server raises its own errors here
        raise BadRequest("the body must have its declared length, or whole chunks, got one that breaks off") from error


def read_request(request: flask.Request, body: bytes, max_images: int) -> Sent:
    """Return the encoded images and the options of a POST. Raises BadRequest, TooLarge or UnsupportedMedia."""
    coding = request.headers.get("Content-Encoding", "identity")
    if coding.lower() != "identity":
        raise UnsupportedMedia(f"the body must be sent without Content-Encoding, got {quoted(coding)}")
    query = list(request.args.items(multi=True))
    sent = declared(request.content_type)
    if request.mimetype == "application/json":
        other = describe_image(body) or describe_text(body)
        if other not in (None, JSON_BODY):
            raise UnsupportedMedia(f"the body {sent} must be JSON, got {other}")
        given, typed = _read_json(body)
        several = type(given) is list  # not a _JsonObject
        texts = given if several else [given]
        _check_count(len(texts), max_images)
        images = tuple(map(_decode_base64, texts))
        if several and b"" in images:
            raise BadRequest(f"each image of the list must be {BASE64}, got an empty one")
        return Sent(images, parse_options(query, typed), several)
    if request.mimetype == "multipart/form-data":
        images, fields = _read_multipart(request, body)
        _check_count(len(images), max_images)
        for image in images:
            other = describe_text(image)
            if other:
                raise UnsupportedMedia(f"the part 'image' must be an image, got {other}")
        return Sent(images, parse_options([*query, *fields]), len(images) > 1)
    other = describe_text(body)
    if other:
        raise UnsupportedMedia(f"the body {sent} must be an image, got {other}")
    return Sent((body,), parse_options(query))


def _check_count(count: int, max_images: int) -> None:
    if count == 0:
        raise BadRequest("image must be an image, or a list of at least one, got []")
    if count > max_images:
        raise TooLarge(f"a request must have at most {max_images} images, got {count}")


class _Part(msgspec.Struct):
    """A part of a form. ``is_file``: True if it has a filename."""

    name: str
    is_file: bool
    pieces: list[bytes] = msgspec.field(default_factory=list)

    @property
    def is_image(self) -> bool:
        """True if the part holds the image. Some clients, such as Flutter's, send it without a filename."""
        return self.is_file or self.name == IMAGE

    @property
    def content(self) -> bytes:
        """The content of the part."""
        return b"".join(self.pieces)


def _read_multipart(request: flask.Request, body: bytes) -> tuple[tuple[bytes, ...], list[tuple[str, str]]]:
    boundary, used = request.mimetype_params.get("boundary", ""), boundary_of(body)
    if used is None and (other := describe_image(body) or describe_text(body)):
        raise UnsupportedMedia(f"the body {declared(request.content_type)} must be a form, got {other}")
    if not (boundary and boundary.isascii()):
        needed = f"; it must be 'multipart/form-data; boundary={used}'" if used else ""
        raise BadRequest(f"multipart/form-data must name its boundary in Content-Type, got none{needed}")
    if used not in (None, boundary):
        raise BadRequest(
            f"the form must have the boundary of its Content-Type, {quoted(boundary)}, got {quoted(used)}: "
            f"its Content-Type must be 'multipart/form-data; boundary={used}'"
        )
    try:
        parts = _parse_form(body, boundary.encode())
    except HTTPException as error:
        raise TooLarge(
            f"a form must have at most {FORM_MAX_PARTS} parts, and {FORM_MAX_TEXT_BYTES} bytes of text and headers, "
            "got more"
        ) from error
    except ValueError as error:
        raise BadRequest("the multipart body must be complete and well-formed, got one that is not") from error
    images = [part for part in parts if part.is_image]
    if {part.name for part in images} != {IMAGE}:
        got = ", ".join(quoted(part.name) for part in images[:5]) or "no file part"
        raise BadRequest(f"a multipart body must have file parts 'image' alone, one for each image, got {got}")
    fields = [(part.name, part.content.decode("utf-8", "replace")) for part in parts if not part.is_image]
    return tuple(part.content for part in images), fields


def _parse_form(body: bytes, boundary: bytes) -> list[_Part]:
    """Return the parts of a form. Raises ValueError if it is broken, HTTPException if it is over a limit.

    The decoder takes the body in chunks and never holds more than FORM_MAX_TEXT_BYTES: the content of a part leaves it
    piece by piece, but headers have to fit.
    """
    decoder = MultipartDecoder(boundary, FORM_MAX_TEXT_BYTES, max_parts=FORM_MAX_PARTS)
    parts: list[_Part] = []
    text_bytes = 0
    chunks = (body[at : at + CHUNK_BYTES] for at in range(0, len(body), CHUNK_BYTES))
    for chunk in itertools.chain(chunks, [None]):
        decoder.receive_data(chunk)
        while not isinstance(event := decoder.next_event(), NeedData | Epilogue):
            if isinstance(event, Field | File):
                parts.append(_Part(event.name, isinstance(event, File)))
            elif isinstance(event, Data):
                parts[-1].pieces.append(event.data)
                text_bytes += 0 if parts[-1].is_image else len(event.data)
                if text_bytes > FORM_MAX_TEXT_BYTES:
                    raise RequestEntityTooLarge
    return parts


def _read_json(body: bytes) -> tuple[Any, Pairs]:
    """Return the value of ``image``, a list or not, and the other members."""
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
    return images[0], [(name, _as_dict(given)) for name, given in value if name != IMAGE]


def _as_dict(value: Any) -> Any:
    return dict(value) if isinstance(value, _JsonObject) else value


def _reject_constant(constant: str) -> None:
    raise ValueError(constant)


def _decode_base64(text: Any) -> bytes:
    """Return the bytes of base64 text. Raises BadRequest.

    The text may be a data: URL, have line breaks, be of the URL-safe alphabet, and lack its padding.
    """
    if not isinstance(text, str):
        raise BadRequest(f"image must be {BASE64}, got {quoted(_as_dict(text))}")
    start = DATA_URL.match(text.lstrip())
    text = text.strip()
    digits = text[start.end() if start else 0 :].strip()
    if LOST_PLUS.search(digits):
        lost = f"with spaces inside ({digits.count(' ')}): a form or a URL makes one of each +, so send + as %2B"
        raise _base64_error(text, lost)
    digits = digits.translate(WHITESPACE).translate(URL_SAFE).rstrip("=")
    wrong = NOT_BASE64.search(digits)
    if wrong:
        raise _base64_error(text, f"with {wrong[0]!r} as character {wrong.start()} of the base64")
    try:
        return binascii.a2b_base64(digits + "=" * (-len(digits) % 4), strict_mode=True)
    except ValueError as error:
        raise _base64_error(text, f"with {len(digits)} characters, which is one too many or too few") from error


def _base64_error(text: str, what: str) -> BadRequest:
    rest = " ..." if len(text) > BASE64_QUOTED else ""
    return BadRequest(f"image must be {BASE64}, got {text[:BASE64_QUOTED]!r}{rest} {what}")
