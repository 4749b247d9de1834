"""ID tokens: how the function proves who it is where a cloud's front door guards the model server.

google-auth finds the account: the key file in GOOGLE_APPLICATION_CREDENTIALS, else the cloud's metadata server. Most
deployments need none of it: it is imported with the first token, and a bundle holds it only where that is asked for.

It asks in a thread of its own, as nothing bounds the time that it takes; requests wait no longer than their deadline.
What it has to say of a failure can quote keys and tokens, so that little of that reaches the log.
"""

import importlib.util
import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from handler.errors import ConfigError, ModelUnavailable

Metadata = tuple[tuple[str, str], ...]
PACKAGES = ("google.auth", "requests", "cryptography")
MESSAGE = "the function must show the model server an ID token, got none"
FETCH_S = 5.0  # for one question to the web; the metadata server answers in milliseconds
TOKEN = re.compile(r"[\w.=-]{1,12000}", re.ASCII)
STATUS = re.compile(r"[Ss]tatus: (\d{3})\b")


class Tokens:
    """Keeps one ID token for ``audience``, the URL of the service that is called.

    Safe for threads, and for a fork before its first call. Raises ConfigError where google-auth is not installed.
    """

    def __init__(self, audience: str) -> None:
        if not all(importlib.util.find_spec(name) for name in PACKAGES):
            raise ConfigError("google-auth must be installed where TF_SERVING_AUDIENCE is set: bundle with --id-tokens")
        self._audience = audience
        self._lock = threading.Lock()  # never held while anything waits
        self._held: Any = None  # credentials with their token
        self._asked: Future[Any] | None = None

    def metadata(self, end_s: float) -> Metadata:
        """Return the metadata of a call, with a token that is had by ``end_s`` (monotonic).

        One that expires within minutes is still good, and renewed meanwhile. Raises ModelUnavailable where none can be
        had; neither message nor reason holds a token.
        """
        with self._lock:
            held = self._held
            state = "INVALID" if held is None else held.token_state.name
            if state == "FRESH":
                return _bearer(held)
            asked = self._asked or self._ask()
        if state == "STALE":
            return _bearer(held)
        try:
            return _bearer(asked.result(max(0.0, end_s - time.monotonic())))
        except TimeoutError:
            raise ModelUnavailable(MESSAGE, f"{self._audience}: none came within the deadline") from None
        except ModelUnavailable as error:
            raise ModelUnavailable(MESSAGE, error.reason) from None  # one of its own for each request

    def forget(self, refused: Metadata) -> None:
        """Fetch a new token for the next call, unless one has come since the server refused this one."""
        with self._lock:
            if self._held is not None and _bearer(self._held) == refused:
                self._held = None

    def _ask(self) -> "Future[Any]":
        """Start to fetch, with the lock held; the Future has credentials or ModelUnavailable."""
        asked: Future[Any] = Future()
        self._asked = asked

        def answer() -> None:
            try:
                credentials, failure = self._fetch(), None
            except ModelUnavailable as error:
                credentials, failure = None, error
            with self._lock:
                self._held, self._asked = credentials or self._held, None
            if failure is None:
                asked.set_result(credentials)
            else:
                asked.set_exception(failure)

        threading.Thread(target=answer, name="ID token", daemon=True).start()
        return asked

    def _fetch(self) -> Any:
        from google.auth import exceptions  # noqa: PLC0415 - a tenth of a second, only where tokens are asked for
        from google.oauth2.id_token import fetch_id_token_credentials  # noqa: PLC0415

        fetch: Callable[..., Any] = fetch_id_token_credentials
        try:
            # Not bound to a certificate that the function does not show.
            credentials = fetch(self._audience, _ask_web, bind_id_token=False)
            credentials.refresh(_ask_web)
            if TOKEN.fullmatch(credentials.token) and credentials.token_state.name != "INVALID":
                return credentials
            reason = "what came is no token, or has expired"
        except exceptions.MalformedError:
            reason = "what came is no token"
        except exceptions.DefaultCredentialsError as error:
            reason = str(error.args[0])[:200]  # its own words; what follows can quote the key file
        except Exception as error:  # noqa: BLE001 - a file and a web that may hold anything; texts quote what came
            status = STATUS.search(str(error))
            reason = f"{type(error).__name__}{f', status {status[1]}' if status else ''}"
        raise ModelUnavailable(MESSAGE, f"{self._audience}: {reason}")


def _ask_web(*arguments: Any, timeout: float = FETCH_S, **options: Any) -> Any:
    """Ask as google-auth does, but for FETCH_S at most, and in plaintext past any proxy: a token comes back."""
    from google.auth.transport.requests import Request  # noqa: PLC0415

    kind: Callable[..., Any] = Request
    return kind()(*arguments, **options, proxies={"http": ""}, timeout=min(timeout, FETCH_S))


def _bearer(credentials: Any) -> Metadata:
    return (("authorization", f"Bearer {credentials.token}"),)
