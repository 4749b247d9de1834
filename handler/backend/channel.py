"""The gRPC channel to TensorFlow Serving: TLS, deadlines, retries, and status codes -> errors.

gRPC itself retries UNAVAILABLE; for requests over 256 KiB, it needs a larger retry buffer. This module retries:

- RESOURCE_EXHAUSTED, if its message says that the server is busy. Otherwise a message is over a size limit.
- NOT_FOUND and an unknown version label. During a rollout, another replica may serve this version.
- UNAUTHENTICATED, once, with a new ID token.
"""

import itertools
import json
import logging
import os
import random
import threading
import time
from typing import Any

import grpc

from handler.backend.proxy import describe_proxy
from handler.backend.tls import Fingerprint, Tls
from handler.backend.tokens import Metadata, Tokens
from handler.errors import BackendError, ConfigError, ModelTimeout, ModelUnavailable, NotServed, RequestRefused

logger = logging.getLogger("segment.channel")
BUSY = "Server Threadpool Exhausted"
CLOSED = "Socket closed"
NO_LABEL = "Unrecognized servable version label"
ATTEMPTS = 5
RETRY_WAIT_S = 0.05  # doubles: 0.05, 0.1, 0.2, 0.4
REPLICA_ATTEMPTS = 16  # if one of two replicas has the version, all attempts miss it once in 65,536 calls
REPLICA_WAIT_S = 0.02  # at most; random, or clients in step would meet the same replica each time
RETRY_BUFFER_BYTES = 64 << 20
SERVICE_CONFIG = {
    "loadBalancingConfig": [{"round_robin": {}}],
    "methodConfig": [
        {
            "name": [{}],
            "retryPolicy": {
                "maxAttempts": 4,
                "initialBackoff": "0.1s",
                "maxBackoff": "1s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ],
}
CHANNEL_OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.per_rpc_retry_buffer_size", RETRY_BUFFER_BYTES),
    ("grpc.max_reconnect_backoff_ms", 2000),  # by default, it takes up to 2 minutes to notice that a server is back
    ("grpc.service_config", json.dumps(SERVICE_CONFIG)),
]


class Channel:
    """Calls one server for one model. Thread-safe; may be forked before its first call.

    ``address``: any address that gRPC resolves. ``model``: its name, for errors. ``tls``: None for plaintext.
    ``audience``: of the ID token, "" for no token. Raises ConfigError if a file of ``tls`` cannot be used.
    """

    def __init__(self, address: str, model: str, tls: Tls | None = None, audience: str = "") -> None:
        if audience and tls is None:
            raise ConfigError("an ID token must go over TLS, got an address in plaintext")
        self._address = address
        self._model = model
        self._tls = tls
        self._tokens = Tokens(audience) if audience else None
        self._lock = threading.Lock()
        self._channel: Any = None
        self._opened_with: tuple[int, Fingerprint | None] | None = None  # process id, certificates
        if tls is not None:
            tls.read()  # raises ConfigError at the start, not during a request

    def call(self, method: str, request: bytes, end_s: float) -> bytes:
        """Return the response's bytes. ``end_s``: the deadline, monotonic. Raises what :func:`translate` returns."""
        invoke = self._open().unary_unary(method)
        for attempt in itertools.count():
            metadata = self._metadata(end_s)
            try:
                answer: bytes = invoke(request, timeout=max(0.001, end_s - time.monotonic()), metadata=metadata)
            except grpc.RpcError as error:
                wait_s = self._retry_wait_s(error, attempt, metadata)
                if wait_s is None or time.monotonic() + wait_s >= end_s:
                    raise translate(error.code(), self._explain(error, metadata), self._model) from error
                time.sleep(wait_s)
            else:
                return answer
        raise AssertionError("the last attempt returns or raises")

    def close(self) -> None:
        """Close the channel. The next call opens a new one."""
        with self._lock:
            if self._channel is not None:
                self._channel.close()
            self._channel = None

    def _metadata(self, end_s: float) -> Metadata | None:
        return self._tokens.metadata(end_s) if self._tokens else None

    def _explain(self, error: Any, metadata: Metadata | None) -> str:
        """Return the error's details without the ID token, and the likely cause if the server closed the connection."""
        details: str = error.details() or ""
        for _, token in metadata or ():
            details = details.replace(token.removeprefix("Bearer "), "...")
        proxy = describe_proxy(self._address, os.environ)
        if proxy and error.code() == grpc.StatusCode.UNAVAILABLE:
            details = (
                f"{details}; gRPC connects through the proxy of {proxy}: no_proxy can name the model server's host"
            )
        if CLOSED not in details:
            return details
        if self._tls is None:
            return f"{details}; a server that wants TLS also closes like this"
        certificate = self._tls.describe_certificate()
        return f"{details}; a server that takes no such client also closes like this: it was shown {certificate}"

    def _retry_wait_s(self, error: Any, attempt: int, metadata: Metadata | None) -> float | None:
        """Return the seconds to wait until the next attempt, None if no further attempt makes sense."""
        code, details = error.code(), error.details()
        backoff_s: float = RETRY_WAIT_S * 2**attempt * random.uniform(0.5, 1.5)  # noqa: S311 - no secret: it spreads retries
        if code == grpc.StatusCode.UNAUTHENTICATED and self._tokens and metadata and attempt == 0:
            self._tokens.forget(metadata)  # the token may be revoked, or the clocks differ
            return backoff_s
        if is_busy(code, details) and attempt < ATTEMPTS - 1:
            return backoff_s
        if is_absent(code, details) and attempt < REPLICA_ATTEMPTS - 1:
            return random.uniform(0, REPLICA_WAIT_S)  # noqa: S311
        return None

    def _open(self) -> Any:
        """Return the channel of this process; open a new one if the certificates have changed and can be read.

        A channel that is inherited through a fork does not work. Calls that run on an old channel may finish there.
        """
        with self._lock:
            pid, fingerprint = os.getpid(), self._tls.fingerprint() if self._tls else None
            if self._channel is None or self._opened_with != (pid, fingerprint):
                try:
                    self._channel = self._connect()
                except ConfigError as error:
                    if self._channel is None or self._opened_with is None or self._opened_with[0] != pid:
                        raise ModelUnavailable("the function's certificates must be readable", str(error)) from error
                    logger.warning("the certificates are kept, because the new ones cannot be used: %s", error)
                self._opened_with = pid, fingerprint
            return self._channel

    def _connect(self) -> Any:
        if self._tls is None:
            return grpc.insecure_channel(self._address, options=CHANNEL_OPTIONS)
        ca, key, cert = self._tls.read()
        credentials = grpc.ssl_channel_credentials(ca, key, cert)
        name = self._tls.server_name
        override = [("grpc.ssl_target_name_override", name)] if name else []
        return grpc.secure_channel(self._address, credentials, options=CHANNEL_OPTIONS + override)


def is_busy(code: Any, details: str | None) -> bool:
    """Return True if the server has no free thread. A message over a size limit has the same status code."""
    return code == grpc.StatusCode.RESOURCE_EXHAUSTED and BUSY in (details or "")


def is_absent(code: Any, details: str | None) -> bool:
    """Return True if the server does not serve the model, or this version or label of it."""
    unknown_label = code == grpc.StatusCode.INVALID_ARGUMENT and NO_LABEL in (details or "")
    return unknown_label or code == grpc.StatusCode.NOT_FOUND


def translate(code: Any, details: str | None, model: str) -> BackendError:  # noqa: PLR0911 - a table of statuses
    """Return the error for a gRPC status. ``details`` becomes its reason, which only the log gets."""
    codes = grpc.StatusCode
    reason = f"{code.name}: {details}"
    if code == codes.UNAVAILABLE:
        return ModelUnavailable("the model server cannot be reached", reason)
    if is_busy(code, details):
        return ModelUnavailable("the model server is busy", reason)
    if code in (codes.UNAUTHENTICATED, codes.PERMISSION_DENIED):
        return ModelUnavailable(f"the model server must let the function in, got {code.name}", reason)
    if code == codes.INVALID_ARGUMENT and NO_LABEL in (details or ""):
        return NotServed(f"the model server must know the version label of model {model!r}", reason)
    if code == codes.NOT_FOUND:
        return NotServed(f"the model server must serve model {model!r}, got NOT_FOUND", reason)
    if code == codes.DEADLINE_EXCEEDED:
        return ModelTimeout("the model server did not answer within the deadline", reason)
    if code in (codes.INVALID_ARGUMENT, codes.FAILED_PRECONDITION):
        return RequestRefused(f"model {model!r} must accept what its contract says, got {code.name}", reason)
    return BackendError(f"the model server must answer OK, got {code.name}", reason)
