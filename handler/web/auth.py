"""API keys."""

import hmac

import flask

from handler.errors import Unauthorized

KEY_HEADER = "X-API-Key"


def check_key(request: flask.Request, api_keys: tuple[str, ...]) -> None:
    """Raise Unauthorized unless the request has one of the keys. Without keys everyone may ask.

    Every key is compared, in constant time.
    """
    if not api_keys:
        return
    given = request.headers.get(KEY_HEADER)
    if given is None:
        raise Unauthorized(f"the request must have an {KEY_HEADER} header, got none")
    matches = [hmac.compare_digest(given.encode(), key.encode()) for key in api_keys]
    if not any(matches):
        raise Unauthorized(f"{KEY_HEADER} must be a valid key, got another")
