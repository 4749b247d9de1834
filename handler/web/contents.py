"""What the bytes of a body are, for an error that names the Content-Type to send them with."""

import binascii
import re

from handler.errors import quoted
from handler.image.kinds import recognise

HEAD_BYTES = 4096
BOM = b"\xef\xbb\xbf"
BOUNDARY = re.compile(rb"--([^\r\n]{1,200}?)[ \t]*\r?\n")
DISPOSITION = re.compile(rb"^content-disposition:", re.IGNORECASE | re.MULTILINE)
JSON_OBJECT = re.compile(rb'\{\s{0,100}"')
URL_ENCODED = re.compile(rb"[\w.%+-]{1,100}=[\w.%*+/:;,-]*(&|=|\s|$)", re.ASCII)
DATA_URL = re.compile(rb"data:[^,]{0,200},", re.IGNORECASE)
BASE64_START = re.compile(rb'"?([A-Za-z0-9+/_-]{16})[A-Za-z0-9+/_=\s-]*"?')
URL_SAFE = bytes.maketrans(b"-_", b"+/")
JSON_BODY = "JSON: its Content-Type must be 'application/json'"
IN_JSON = "send it as 'image' in application/json, or send the bytes that it stands for"


def boundary_of(body: bytes) -> str | None:
    """Return the boundary that a body of multipart/form-data starts with, None if it is no such body."""
    head = body[:HEAD_BYTES].lstrip()
    found = BOUNDARY.match(head)
    return found[1].decode("latin-1") if found and DISPOSITION.search(head) else None


def describe_text(body: bytes) -> str | None:
    """Return what a body of text is and how to send it, None if it is not one that clients send by mistake."""
    head = body[:HEAD_BYTES].removeprefix(BOM).lstrip()
    boundary = boundary_of(body)
    if boundary is not None:
        return f"a form: its Content-Type must be 'multipart/form-data; boundary={boundary}'"
    if JSON_OBJECT.match(head):
        return JSON_BODY
    if DATA_URL.match(head):
        return f"a data: URL: {IN_JSON}"
    base64 = BASE64_START.fullmatch(head)
    if base64 and recognise(binascii.a2b_base64(base64[1].translate(URL_SAFE))):
        return f"base64 text: {IN_JSON}"
    if URL_ENCODED.match(head):
        return "a URL-encoded form: send it as 'multipart/form-data', with the image as a file"
    return None


def describe_image(body: bytes) -> str | None:
    """Return what an image is and how to send it, None for a body that is no image."""
    content = recognise(body)
    if content is None or content.kind is None:
        return None
    return f"{content.name.partition(',')[0]}: its Content-Type must be 'image/{content.kind}'"


def declared(content_type: str | None) -> str:
    """Return a request's Content-Type as errors name it."""
    return f"under Content-Type {quoted(content_type)}" if content_type else "without a Content-Type"
