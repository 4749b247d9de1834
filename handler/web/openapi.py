"""The OpenAPI 3.1 document, generated from the types that check the options and encode the answers."""

import functools
from collections.abc import Mapping
from typing import Any, get_args

import msgspec

from handler import __version__
from handler.options import Format, JsonRequest, Options
from handler.web import formats, schemas
from handler.web.auth import KEY_HEADER
from handler.web.routes import PAGES, POST, ROOT, Page
from handler.web.schemas import JSON, PROBLEM

REF = "#/components/schemas/{name}"
Schema = dict[str, Any]
POST_PROBLEMS = (400, 413, 415, 500, 502, 503, 504)
REASONS = {
    400: "An option, the body or the image cannot be read",
    401: "The request has no valid API key",
    413: "More bytes or pixels than the service accepts",
    415: "Not an image of a kind that the service accepts",
    500: "A defect of the service",
    502: "The model's answer does not match its contract",
    503: "The model server cannot be reached, is busy, or does not serve the model",
    504: "The model did not answer within the deadline",
}
TIMING = {"description": "milliseconds of decode, mold, predict, unmold, encode", "schema": {"type": "string"}}
REQUEST_ID = {"description": "echoed from the request, or generated", "schema": {"type": "string"}}
RETRY = {"description": "seconds", "schema": {"type": "integer", "minimum": 1}}
CHALLENGE = {"description": "how to authenticate", "schema": {"type": "string"}}


@functools.cache
def document(image_kinds: tuple[str, ...], locked: bool) -> bytes:
    """Return the document as JSON. ``image_kinds``: those accepted. ``locked``: True if API keys are required."""
    answers = [formats.find(name).ANSWER for name in get_args(Format)]
    types = [*answers, *(page.schema for page in PAGES.values()), schemas.Problem, JsonRequest]
    described, components = msgspec.json.schema_components(types, ref_template=REF)
    by_type = {repr(kind): schema for kind, schema in zip(types, described, strict=True)}
    paths: dict[str, Any] = {
        path: {"get": _page(path, page, by_type[repr(page.schema)], locked)} for path, page in PAGES.items()
    }
    any_answer = {"anyOf": [by_type[repr(answer)] for answer in answers]}
    paths[ROOT]["post"] = _post(image_kinds, any_answer, by_type[repr(JsonRequest)], components, locked)
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
    return msgspec.json.encode(whole)


def _page(path: str, page: Page, schema: Schema, locked: bool) -> Schema:
    operation: Schema = {
        "operationId": f"get_{path.strip('/').replace('.', '_') or 'index'}",
        "summary": page.summary,
        "responses": {
            "200": _response(page.summary, schema),
            **_problems((*page.problems, 500), locked and page.locked),
        },
    }
    return _lock(operation, locked and page.locked)


def _post(
    image_kinds: tuple[str, ...], answer: Schema, body: Schema, components: Mapping[str, Schema], locked: bool
) -> Schema:
    properties = components[JsonRequest.__name__]["properties"]
    options = {name: properties[name] for name in Options.__struct_fields__}
    image: Schema = {"type": "string", "format": "binary"}
    form = {
        "type": "object",
        "properties": {"image": image, **{name: _as_text(schema) for name, schema in options.items()}},
        "required": ["image"],
        "additionalProperties": False,
    }
    kinds = [f"image/{kind}" for kind in image_kinds]
    content: Schema = {kind: {"schema": image} for kind in (*kinds, "application/octet-stream")}
    content["multipart/form-data"] = {"schema": form, "encoding": {"image": {"contentType": ", ".join(kinds)}}}
    content[JSON] = {"schema": body}
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
            "200": _response("the instances, in the requested format", answer, {"Server-Timing": TIMING}),
            **_problems(POST_PROBLEMS, locked),
        },
    }
    return _lock(operation, locked)


def _as_text(schema: Schema) -> Schema:
    """Return the schema of an option in a query or a form, where it is text: lists are comma-separated."""
    choices = [choice for choice in schema.get("anyOf", []) if choice["type"] == "string"]
    return {**choices[0], "description": schema["description"]} if choices else schema


def _response(what: str, schema: Schema, headers: Mapping[str, Schema] | None = None) -> Schema:
    return {
        "description": what,
        "headers": {"X-Request-Id": REQUEST_ID, **(headers or {})},
        "content": {JSON: {"schema": schema}},
    }


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
