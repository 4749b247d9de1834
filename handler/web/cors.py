"""Cross-origin requests: which web pages may send requests and read responses. Source: fetch.spec.whatwg.org."""

import flask

from handler.web.auth import KEY_HEADER
from handler.web.schemas import MODEL_BYTES

ANY_ORIGIN = "*"
TRACING = ("traceparent", "tracestate", "baggage", "sentry-trace")  # that OpenTelemetry and Sentry add to each request
REQUEST_HEADERS = ("Content-Type", KEY_HEADER, "X-Request-Id", "Authorization", *TRACING)
RESPONSE_HEADERS = f"X-Request-Id, Server-Timing, {MODEL_BYTES}, Retry-After"
PREFLIGHT_S = 7200  # browsers cache a preflight for at most two hours


def add_headers(
    request: flask.Request,
    response: flask.Response,
    origins: tuple[str, ...],
    methods: str,
    extra_headers: tuple[str, ...] = (),
) -> None:
    """Allow a page of an allowed origin to read the response, or to send the request after its preflight.

    ``origins``: exact origins, or ``*`` alone; () allows none. ``methods``: those that the path offers.
    ``extra_headers``: names of request headers that pages may send besides REQUEST_HEADERS.
    """
    if not origins:
        return
    allowed: str | None = ANY_ORIGIN
    if ANY_ORIGIN not in origins:
        response.vary.add("Origin")
        allowed = request.headers.get("Origin")
        if allowed not in origins:
            return
    headers = response.headers
    headers["Access-Control-Allow-Origin"] = headers["Timing-Allow-Origin"] = str(allowed)
    if request.method == "OPTIONS":
        headers["Access-Control-Allow-Methods"] = methods
        headers["Access-Control-Allow-Headers"] = ", ".join((*REQUEST_HEADERS, *extra_headers))
        headers["Access-Control-Max-Age"] = str(PREFLIGHT_S)
    else:
        headers["Access-Control-Expose-Headers"] = RESPONSE_HEADERS
