"""The gRPC channel to TensorFlow Serving: one a process, TLS, deadlines, retries, and status codes into errors.

gRPC itself retries UNAVAILABLE, for requests over 256 KiB only with a larger retry buffer. Retried here:

- RESOURCE_EXHAUSTED, if its message says that the server is busy. Otherwise a message is over a size limit.
- NOT_FOUND and an unknown version label. During a rollout another replica may serve what this one does not.
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

from handler.backend.tls import Stamp, Tls
from handler.backend.tokens import Metadata, Tokens
from handler.errors import BackendError, ConfigError, ModelTimeout, ModelUnavailable, NotServed, RequestRefused

logger = logging.getLogger("segment.channel")
BUSY = "Server Threadpool Exhausted"
CLOSED = "Socket closed"
NO_LABEL = "Unrecognized servable version label"
ATTEMPTS = 5
RETRY_WAIT_S = 0.05  # doubles: 0.05, 0.1, 0.2, 0.4
REPLICA_ATTEMPTS = 16  # if one of two replicas has the version, all of them miss it once in 65,536 calls
REPLICA_WAIT_S = 0.02  # at most; random, as clients in step would each meet the same replica again and again
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
    ("grpc.max_reconnect_backoff_ms", 2000),  # by default a server that comes back is not noticed for up to 2 minutes
    ("grpc.service_config", json.dumps(SERVICE_CONFIG)),
]


class Channel:
    """Calls one server about one model. Safe for threads, and for a fork before its first call.

    ``address``: anything gRPC resolves. ``model`` is named in errors. ``tls``: None is plaintext. ``audience``: of the
    ID token that goes along, "" for none. Raises ConfigError where a file of ``tls`` cannot be used.
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
        self._opened: tuple[int, Stamp | None] | None = None  # by which process, and with which certificates
        if tls is not None:
            tls.read()  # what is wrong from the start should be said at the start

    def call(self, method: str, request: bytes, end_s: float) -> bytes:
        """Return the answer's bytes; raises the BackendError that :func:`translate` names."""
        invoke = self._open().unary_unary(method)
        for attempt in itertools.count():
            metadata = self._metadata(end_s)
            try:
                answer: bytes = invoke(request, timeout=max(0.001, end_s - time.monotonic()), metadata=metadata)
            except grpc.RpcError as error:
                wait_s = self._wait_s(error, attempt, metadata)
                if wait_s is None or time.monotonic() + wait_s >= end_s:
                    raise translate(error.code(), self._explained(error, metadata), self._model) from error
                time.sleep(wait_s)
            else:
                return answer
        raise AssertionError("the last attempt returns or raises")

    def close(self) -> None:
        """Close the channel; the next call opens another."""
        with self._lock:
            if self._channel is not None:
                self._channel.close()
            self._channel = None

    def _metadata(self, end_s: float) -> Metadata | None:
        return self._tokens.metadata(end_s) if self._tokens else None

    def _explained(self, error: Any, metadata: Metadata | None) -> str:
        """Return the error's details, without the token, and with what a server that hangs up leaves unsaid."""
        details: str = error.details() or ""
        for _, shown in metadata or ():
            details = details.replace(shown.removeprefix("Bearer "), "...")
        if CLOSED not in details:
            return details
        if self._tls is None:
            return f"{details}; a server that wants TLS closes so, too"
        return f"{details}; a server that takes no such client closes so, too: it was shown {self._tls.shown()}"

    def _wait_s(self, error: Any, attempt: int, metadata: Metadata | None) -> float | None:
        """Return the seconds to wait before the next attempt, None if another one cannot succeed."""
        code, details = error.code(), error.details()
        backoff_s: float = RETRY_WAIT_S * 2**attempt * random.uniform(0.5, 1.5)  # noqa: S311 - spreads retries, no secret
        if code == grpc.StatusCode.UNAUTHENTICATED and self._tokens and metadata and attempt == 0:
            self._tokens.forget(metadata)  # it may have been revoked, or the clocks differ
            return backoff_s
        if is_busy(code, details) and attempt < ATTEMPTS - 1:
            return backoff_s
        if is_absent(code, details) and attempt < REPLICA_ATTEMPTS - 1:
            return random.uniform(0, REPLICA_WAIT_S)  # noqa: S311
        return None

    def _open(self) -> Any:
        """Return this process's channel, a new one where certificates have changed and can be read.

        One inherited through a fork does not work. It, and one with old certificates, is left to its last calls.
        """
        with self._lock:
            pid, stamp = os.getpid(), self._tls.stamp() if self._tls else None
            if self._channel is None or self._opened != (pid, stamp):
                try:
                    self._channel = self._connect()
                except ConfigError as error:
                    if self._channel is None or self._opened is None or self._opened[0] != pid:
                        raise ModelUnavailable("the function's certificates must be readable", str(error)) from error
                    logger.warning("the certificates are kept, as the new ones cannot be used: %s", error)
                self._opened = pid, stamp
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
    """Tell a server short of threads from a message over a size limit: both are RESOURCE_EXHAUSTED."""
    return code == grpc.StatusCode.RESOURCE_EXHAUSTED and BUSY in (details or "")


def is_absent(code: Any, details: str | None) -> bool:
    """Tell whether the server does not serve the model, or this version or label of it."""
    unknown_label = code == grpc.StatusCode.INVALID_ARGUMENT and NO_LABEL in (details or "")
    return unknown_label or code == grpc.StatusCode.NOT_FOUND


def translate(code: Any, details: str | None, model: str) -> BackendError:  # noqa: PLR0911 - a table of statuses
    """Return the error for a gRPC status. ``details`` decides, and is kept as the reason, but never told to clients."""
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
