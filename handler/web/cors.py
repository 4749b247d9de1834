"""Cross-origin requests: which web pages may send requests and read responses. Source: fetch.spec.whatwg.org."""

import flask

from handler.web.auth import KEY_HEADER

ANY_ORIGIN = "*"
REQUEST_HEADERS = f"Content-Type, {KEY_HEADER}, X-Request-Id"
RESPONSE_HEADERS = "X-Request-Id, Server-Timing, Retry-After"
PREFLIGHT_S = 7200  # browsers cache a preflight for at most two hours


def add_headers(request: flask.Request, response: flask.Response, origins: tuple[str, ...], methods: str) -> None:
    """Allow a page of an allowed origin to read the response, or to send the request after its preflight.

    ``origins``: exact origins, or ``*`` alone; () allows none. ``methods``: those that the path offers.
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
        headers["Access-Control-Allow-Headers"] = REQUEST_HEADERS
        headers["Access-Control-Max-Age"] = str(PREFLIGHT_S)
    else:
        headers["Access-Control-Expose-Headers"] = RESPONSE_HEADERS
