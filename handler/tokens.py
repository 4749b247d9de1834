"""ID tokens: how the function proves who it is where a cloud's front door guards the model server.

google-auth finds the account: the key file in GOOGLE_APPLICATION_CREDENTIALS, else the cloud's metadata server. Most
deployments need none of it: it is imported with the first token, and a bundle holds it only where that is asked for.
"""

import importlib.util
import threading
import time
from collections.abc import Callable
from typing import Any

from handler.errors import ConfigError, ModelUnavailable

Metadata = tuple[tuple[str, str], ...]
FETCH_S = 5.0  # at most for one question; the metadata server answers in milliseconds
MESSAGE = "the function must show the model server an ID token, got none"


class Tokens:
    """Keeps one ID token for ``audience``, the URL of the service that is called. Safe for threads, and for a fork.

    Raises ConfigError where google-auth is not installed.
    """

    def __init__(self, audience: str) -> None:
        if importlib.util.find_spec("google.auth") is None:
            raise ConfigError("google-auth must be installed where TF_SERVING_AUDIENCE is set: bundle with --id-tokens")
        self._audience = audience
        self._lock = threading.Lock()
        self._credentials: Any = None

    def metadata(self, end_s: float) -> Metadata:
        """Return the call's metadata with a token that is valid for minutes yet, had by ``end_s`` (monotonic).

        Raises ModelUnavailable where none can be had; neither message nor reason holds a token.
        """
        if not self._lock.acquire(timeout=max(0.0, end_s - time.monotonic())):
            raise ModelUnavailable(MESSAGE, f"another request is still asking for one for {self._audience}")
        try:
            if self._credentials is None or not self._credentials.valid:
                self._credentials = self._fetch(end_s)
            return (("authorization", f"Bearer {self._credentials.token}"),)
        finally:
            self._lock.release()

    def forget(self) -> None:
        """Let the next call fetch a new token: the server refused this one."""
        self._credentials = None

    def _fetch(self, end_s: float) -> Any:
        from google.auth import exceptions  # noqa: PLC0415 - a tenth of a second, only where tokens are asked for
        from google.oauth2.id_token import fetch_id_token_credentials  # noqa: PLC0415

        fetch: Callable[..., Any] = fetch_id_token_credentials
        request = _transport(end_s)
        try:
            credentials = fetch(self._audience, request)
            credentials.refresh(request)
        except (exceptions.MalformedError, ValueError, KeyError, TypeError):
            what = "the account's credentials, or the token that came, cannot be read"
            raise ModelUnavailable(MESSAGE, f"{self._audience}: {what}") from None  # their texts quote what came
        except exceptions.GoogleAuthError as error:
            raise ModelUnavailable(MESSAGE, f"{self._audience}: {type(error).__name__}: {error}") from error
        return credentials


def _transport(end_s: float) -> Callable[..., Any]:
    """Return what google-auth asks the web with: bounded in time, where its own waits two minutes."""
    from google.auth.transport.requests import Request  # noqa: PLC0415

    kind: Callable[..., Any] = Request
    ask = kind()

    def request(*arguments: Any, timeout: float = FETCH_S, **options: Any) -> Any:
        return ask(*arguments, **options, timeout=min(timeout, max(0.1, end_s - time.monotonic())))

    return request
