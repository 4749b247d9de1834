"""The OpenAPI 3.1 document, generated from the types that check the options and encode the answers."""

import functools
from collections.abc import Mapping
from typing import Any, get_args

import msgspec

from handler import __version__
from handler.options import Format, JsonRequest, Options
from handler.web import formats, schemas
from handler.web.auth import KEY_HEADER
from handler.web.routes import OPENAPI, PAGES, POST, ROOT, Page
from handler.web.schemas import JSON, MODEL_BYTES, NDJSON, PROBLEM

REF = "#/components/schemas/{name}"
Schema = dict[str, Any]
POST_PROBLEMS = (400, 408, 413, 415, 500, 502, 503, 504)
REASONS = {
    400: "An option, the body or the image cannot be read",
    401: "The request has no valid API key",
    408: "The request took longer to arrive than the service waits",
    413: "More bytes or pixels than the service accepts",
    415: "Not an image of a kind that the service accepts",
    500: "A defect of the service",
    502: "The model's answer does not match its contract",
    503: "The service or the model server is busy, or the model server cannot be reached or does not serve the model",
    504: "The model did not answer within the deadline",
}
TIMING = {"description": "milliseconds of decode, mold, predict, unmold, encode", "schema": {"type": "string"}}
TRAFFIC = {"description": "up=, down=: bytes of the model's request and response", "schema": {"type": "string"}}
REQUEST_ID = {"description": "echoed from the request, or generated", "schema": {"type": "string"}}
RETRY = {"description": "seconds", "schema": {"type": "integer", "minimum": 1}}
IMAGE: Schema = {"type": "string", "format": "binary"}
IMAGES: Schema = {"anyOf": [IMAGE, {"type": "array", "items": IMAGE, "minItems": 1}]}  # an array is a part for each
CHALLENGE = {"description": "how to authenticate", "schema": {"type": "string"}}
CLIENT_PROFILE = "client"
CLIENT_POST = "the instances in an image"
NOT_FOR_CLIENTS = ("format", "image_id")  # they change the shape of the answer
PROFILE = {
    "name": "profile",
    "in": "query",
    "required": False,
    "description": "client: one way to send an image, and one answer, for generators of clients",
    "schema": {"type": "string", "enum": [CLIENT_PROFILE]},
}


@functools.cache
def document(image_kinds: tuple[str, ...], locked: bool, client: bool = False) -> bytes:
    """Return the document as JSON.

    ``image_kinds``: those accepted. ``locked``: True if API keys are required. ``client``: True for one request, the
    image as the body, and one answer, ``format=instances``: generators of clients fail on unions of either.
    """
    answers = [formats.find(name).ANSWER for name in (["instances"] if client else get_args(Format))]
    types = [*answers, *(page.schema for page in PAGES.values()), schemas.Problem, JsonRequest]
    described, components = msgspec.json.schema_components(types, ref_template=REF)
    by_type = {repr(kind): schema for kind, schema in zip(types, described, strict=True)}
    paths: dict[str, Any] = {
        path: {"get": _page(path, page, by_type[repr(page.schema)], locked)} for path, page in PAGES.items()
    }
    options = {name: components[JsonRequest.__name__]["properties"][name] for name in Options.__struct_fields__}
    described_answers = [by_type[repr(answer)] for answer in answers]
    if client:
        del components[JsonRequest.__name__]
        options = {name: schema for name, schema in options.items() if name not in NOT_FOR_CLIENTS}
        paths[ROOT]["post"] = _post(options, _image_content(()), {JSON: {"schema": described_answers[0]}}, locked)
        paths[ROOT]["post"].update(summary=CLIENT_POST, description="The bytes of the image decide its kind.")
    else:
        paths[OPENAPI]["get"]["parameters"] = [PROFILE]
        content = _image_content(image_kinds) | _form_content(image_kinds, options)
        content[JSON] = {"schema": by_type[repr(JsonRequest)]}
        paths[ROOT]["post"] = _post(options, content, _answers_content(described_answers), locked)
    whole: Schema = {
        "openapi": "3.1.0",
        "info": {
            "title": "segment",
            "version": __version__,
            "summary": "Instance segmentation: an image in, instances with masks out.",
            "description": "Coordinates are pixels of the image as sent, after its EXIF orientation; a box covers "
            "[x, x + width) x [y, y + height).",
        },
        "paths": paths,
        "components": {"schemas": components},
    }
    if locked:
        whole["components"]["securitySchemes"] = {"key": {"type": "apiKey", "in": "header", "name": KEY_HEADER}}
    return msgspec.json.encode(_without_tuples(whole) if client else whole)


def _without_tuples(value: Any) -> Any:
    """Return a document with tuples, which all have members of one type, as arrays of fixed length."""
    if isinstance(value, list):
        return [_without_tuples(item) for item in value]
    if not isinstance(value, dict):
        return value
    plain = {name: _without_tuples(item) for name, item in value.items() if name != "prefixItems"}
    return plain | {"items": value["prefixItems"][0]} if "prefixItems" in value else plain


def _page(path: str, page: Page, schema: Schema, locked: bool) -> Schema:
    operation: Schema = {
        "operationId": f"get_{path.strip('/').replace('.', '_') or 'index'}",
        "summary": page.summary,
        "responses": {
            "200": _response(page.summary, {JSON: {"schema": schema}}),
            **_problems((*page.problems, 500), locked and page.locked),
        },
    }
    return _lock(operation, locked and page.locked)


def _image_content(image_kinds: tuple[str, ...]) -> Schema:
    """Return the bodies that are the image itself, by content type."""
    kinds = (*(f"image/{kind}" for kind in image_kinds), "application/octet-stream")
    return {kind: {"schema": IMAGE} for kind in kinds}


def _answers_content(answers: list[Schema]) -> Schema:
    """Return the answers to an image and to several, by content type."""
    problem = {"$ref": REF.format(name=schemas.Problem.__name__)}
    each = {"anyOf": [*answers, problem]}
    several = {"type": "array", "description": "of several images, in their order", "items": each}
    line = {"type": "string", "description": "each answer or problem as JSON on a line, once it is ready"}
    return {JSON: {"schema": {"anyOf": [*answers, several]}}, NDJSON: {"schema": line}}


def _form_content(image_kinds: tuple[str, ...], options: Mapping[str, Schema]) -> Schema:
    form = {
        "type": "object",
        "properties": {"image": IMAGES, **{name: _as_text(schema) for name, schema in options.items()}},
        "required": ["image"],
        "additionalProperties": False,
    }
    encoding = {"image": {"contentType": ", ".join(f"image/{kind}" for kind in image_kinds)}}
    return {"multipart/form-data": {"schema": form, "encoding": encoding}}


def _post(options: Mapping[str, Schema], content: Schema, answers: Schema, locked: bool) -> Schema:
    operation = {
        "operationId": "segment",
        "summary": POST,
        "description": "The bytes of the image decide its kind. Options go in the query, in form fields or in the JSON "
        "body, each at most once.",
        "parameters": [
            {
                "name": name,
                "in": "query",
                "required": False,
                "description": schema.get("description", ""),
                "schema": _as_text(schema),
            }
            for name, schema in options.items()
        ],
        "requestBody": {"required": True, "content": content},
        "responses": {
            "200": _response(
                "the instances, in the requested format",
                answers,
                {"Server-Timing": TIMING, MODEL_BYTES: TRAFFIC},
            ),
            **_problems(POST_PROBLEMS, locked),
        },
    }
    return _lock(operation, locked)


def _as_text(schema: Schema) -> Schema:
    """Return the schema of an option in a query or a form, where it is text: lists are comma-separated."""
    choices = [choice for choice in schema.get("anyOf", []) if choice["type"] == "string"]
    return {**choices[0], "description": schema["description"]} if choices else schema


def _response(what: str, content: Schema, headers: Mapping[str, Schema] | None = None) -> Schema:
    return {"description": what, "headers": {"X-Request-Id": REQUEST_ID, **(headers or {})}, "content": content}


def _problems(statuses: tuple[int, ...], locked: bool) -> Schema:
    found = {}
    for status in (*statuses, *([401] if locked else [])):
        headers: Schema = {"X-Request-Id": REQUEST_ID}
        if status == 503:
            headers["Retry-After"] = RETRY
        if status == 401:
            headers["WWW-Authenticate"] = CHALLENGE
        content = {PROBLEM: {"schema": {"$ref": REF.format(name=schemas.Problem.__name__)}}}
        found[str(status)] = {"description": REASONS[status], "headers": headers, "content": content}
    return found


def _lock(operation: Schema, locked: bool) -> Schema:
    return {**operation, "security": [{"key": []}]} if locked else operation
