"""Who may call: API keys, and the origins whose pages may read the answers (CORS)."""

import hmac
from dataclasses import dataclass

import flask

from handler.errors import Unauthorized

KEY_HEADER = "X-API-Key"
ANY = "*"
SENT = f"Content-Type, {KEY_HEADER}, X-Request-Id"
READABLE = "X-Request-Id, Server-Timing, Retry-After"
PREFLIGHT_S = 7200  # how long a browser may remember what it may do; none keeps it longer


@dataclass(frozen=True, slots=True)
class Access:
    """``api_keys``: any of them will do, () needs none; ``origins``: exact ones, or ``*``, () allows no other page."""

    api_keys: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()

    def check_key(self, request: flask.Request) -> None:
        """Raise Unauthorized unless the request has one of the keys; every key is compared, in constant time."""
        if not self.api_keys:
            return
        given = request.headers.get(KEY_HEADER)
        if given is None:
            raise Unauthorized(f"the request must have an {KEY_HEADER} header, got none")
        matches = [hmac.compare_digest(given.encode(), key.encode()) for key in self.api_keys]
        if not any(matches):
            raise Unauthorized(f"{KEY_HEADER} must be a valid key, got another")

    def share(self, request: flask.Request, response: flask.Response, methods: str) -> None:
        """Set the headers that let a page of an allowed origin read the response, or send the request it asks for."""
        if not self.origins:
            return
        allowed: str | None = ANY
        if ANY not in self.origins:
            response.vary.add("Origin")
            allowed = request.headers.get("Origin")
            if allowed not in self.origins:
                return
        headers = response.headers
        headers["Access-Control-Allow-Origin"] = headers["Timing-Allow-Origin"] = str(allowed)
        if request.method == "OPTIONS":
            headers["Access-Control-Allow-Methods"] = methods
            headers["Access-Control-Allow-Headers"] = SENT
            headers["Access-Control-Max-Age"] = str(PREFLIGHT_S)
        else:
            headers["Access-Control-Expose-Headers"] = READABLE
