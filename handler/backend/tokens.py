"""ID tokens: the function's identity, if a cloud's front door guards the model server.

google-auth finds the account: the key file in GOOGLE_APPLICATION_CREDENTIALS, else the cloud's metadata server. Most
deployments do not need it, so it is imported with the first token, and only ``bundle --id-tokens`` includes it.

google-auth has no overall timeout, so a background thread fetches the token. Requests wait for it until their deadline.
Errors of google-auth can quote keys and tokens, so the log gets only a part of them.
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
FETCH_S = 5.0  # for one HTTP request; the metadata server answers in milliseconds
TOKEN = re.compile(r"[\w.=-]{1,12000}", re.ASCII)
STATUS = re.compile(r"[Ss]tatus: (\d{3})\b")


class Tokens:
    """Keeps one ID token for ``audience``, the URL of the called service.

    Thread-safe; may be forked before its first call. Raises ConfigError if google-auth is not installed.
    """

    def __init__(self, audience: str) -> None:
        if not all(importlib.util.find_spec(name) for name in PACKAGES):
            raise ConfigError("google-auth must be installed if TF_SERVING_AUDIENCE is set: bundle with --id-tokens")
        self._audience = audience
        self._lock = threading.Lock()  # never held during a wait
        self._credentials: Any = None  # with their token
        self._pending: Future[Any] | None = None

    def metadata(self, end_s: float) -> Metadata:
        """Return the gRPC metadata with a token; wait for one until ``end_s`` (monotonic).

        A token that expires within minutes is still used, while a thread fetches the next. Raises ModelUnavailable if
        there is no token; neither message nor reason contains one.
        """
        with self._lock:
            credentials = self._credentials
            state = "INVALID" if credentials is None else credentials.token_state.name
            if state == "FRESH":
                return _bearer(credentials)
            pending = self._pending or self._start_fetch()
        if state == "STALE":
            return _bearer(credentials)
        try:
            return _bearer(pending.result(max(0.0, end_s - time.monotonic())))
        except TimeoutError:
            raise ModelUnavailable(MESSAGE, f"{self._audience}: none came within the deadline") from None
        except ModelUnavailable as error:
            raise ModelUnavailable(MESSAGE, error.reason) from None  # a new error for each request

    def forget(self, refused: Metadata) -> None:
        """Discard the refused token, unless a newer one has replaced it. The next call fetches a new one."""
        with self._lock:
            if self._credentials is not None and _bearer(self._credentials) == refused:
                self._credentials = None

    def _start_fetch(self) -> "Future[Any]":
        """Start a fetch; the caller holds the lock. The Future gets credentials or ModelUnavailable."""
        pending: Future[Any] = Future()

        def run() -> None:
            try:
                credentials, failure = self._fetch(), None
            except ModelUnavailable as error:
                credentials, failure = None, error
            except Exception as error:  # noqa: BLE001 - whatever it is, no request may wait for this thread
                credentials, failure = None, ModelUnavailable(MESSAGE, f"{self._audience}: {type(error).__name__}")
            with self._lock:
                self._credentials, self._pending = credentials or self._credentials, None
            if failure is None:
                pending.set_result(credentials)
            else:
                pending.set_exception(failure)

        threading.Thread(target=run, name="ID token", daemon=True).start()
        self._pending = pending  # not if the thread could not start; the thread waits for the lock
        return pending

    def _fetch(self) -> Any:
        from google.auth import exceptions  # noqa: PLC0415 - takes 0.1 s; only with an audience
        from google.oauth2.id_token import fetch_id_token_credentials  # noqa: PLC0415

        fetch: Callable[..., Any] = fetch_id_token_credentials
        try:
            # bind_id_token would bind the token to a client certificate that the function does not send.
            credentials = fetch(self._audience, _request, bind_id_token=False)
            credentials.refresh(_request)
            if TOKEN.fullmatch(credentials.token) and credentials.token_state.name != "INVALID":
                return credentials
            reason = "the response is no token, or it has expired"
        except exceptions.MalformedError:
            reason = "the response is no token"
        except exceptions.DefaultCredentialsError as error:
            reason = str(error.args[0])[:200]  # the first argument; others can quote the key file
        except Exception as error:  # noqa: BLE001 - key file and responses may hold anything, and messages quote them
            status = STATUS.search(str(error))
            reason = f"{type(error).__name__}{f', status {status[1]}' if status else ''}"
        raise ModelUnavailable(MESSAGE, f"{self._audience}: {reason}")


def _request(*arguments: Any, timeout: float = FETCH_S, **options: Any) -> Any:
    """Send a request for google-auth, within FETCH_S. Plaintext bypasses any proxy, as the response holds a token."""
    from google.auth.transport.requests import Request  # noqa: PLC0415

    transport: Callable[..., Any] = Request
    return transport()(*arguments, **options, proxies={"http": ""}, timeout=min(timeout, FETCH_S))


def _bearer(credentials: Any) -> Metadata:
    return (("authorization", f"Bearer {credentials.token}"),)
