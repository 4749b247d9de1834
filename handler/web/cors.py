"""Cross-origin requests: which web pages may send requests and read the answers. Source: fetch.spec.whatwg.org."""

import flask

from handler.web.auth import KEY_HEADER

ANY_ORIGIN = "*"
REQUEST_HEADERS = f"Content-Type, {KEY_HEADER}, X-Request-Id"
RESPONSE_HEADERS = "X-Request-Id, Server-Timing, Retry-After"
PREFLIGHT_S = 7200  # how long a browser may remember what it may do; none keeps it longer


def add_headers(request: flask.Request, response: flask.Response, origins: tuple[str, ...], methods: str) -> None:
    """Let a page of an allowed origin read the response, or send the request that its preflight asks for.

    ``origins``: exact ones, or ``*`` alone; () allows none. ``methods``: what the path offers.
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
