"""API keys: who may send images."""

import hmac

import flask

from handler.errors import Unauthorized

KEY_HEADER = "X-API-Key"


def check_key(request: flask.Request, api_keys: tuple[str, ...]) -> None:
    """Raise Unauthorized if the request has none of the keys. Without configured keys, any request passes.

    Every key is compared, each in constant time, so the time says nothing about the keys.
    """
    if not api_keys:
        return
    given = request.headers.get(KEY_HEADER)
    if given is None:
        raise Unauthorized(f"the request must have an {KEY_HEADER} header, got none")
    matches = [hmac.compare_digest(given.encode(), key.encode()) for key in api_keys]
    if not any(matches):
        raise Unauthorized(f"{KEY_HEADER} must be a valid key, got another")
