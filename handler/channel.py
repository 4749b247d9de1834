"""The gRPC channel to TensorFlow Serving: one a process, deadlines, retries, and status codes into errors.

Two retries, for two reasons. UNAVAILABLE is retried by gRPC itself, though for requests over 256 KiB only once
the retry buffer is raised. RESOURCE_EXHAUSTED means a busy server only when its message says so (otherwise a
message over a size limit, which no retry mends), so that one is retried here.
"""

import json
import os
import random
import threading
import time
from typing import Any

import grpc

from handler.errors import BackendError, ContractViolation, ModelTimeout, ModelUnavailable

BUSY = "Server Threadpool Exhausted"
ATTEMPTS = 5
RETRY_WAIT_S = 0.05  # doubles: 0.05, 0.1, 0.2, 0.4
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

    ``address``: anything gRPC resolves. ``model`` is named in errors.
    """

    def __init__(self, address: str, model: str) -> None:
        self._address = address
        self._model = model
        self._lock = threading.Lock()
        self._channel: Any = None
        self._owner_pid: int | None = None

    def call(self, method: str, request: bytes, end_s: float, by_number: bool = False) -> bytes:
        """Return the answer's bytes; raises the BackendError that :func:`translate` names.

        ``by_number``: the request names a version, so that NOT_FOUND is worth a retry: another replica may have it.
        """
        invoke = self._open().unary_unary(method)
        for attempt in range(ATTEMPTS):
            try:
                answer: bytes = invoke(request, timeout=max(0.001, end_s - time.monotonic()))
            except grpc.RpcError as error:
                wait_s = RETRY_WAIT_S * 2**attempt * random.uniform(0.5, 1.5)  # noqa: S311 - spreads retries, no secret
                last = attempt == ATTEMPTS - 1 or time.monotonic() + wait_s >= end_s
                elsewhere = by_number and error.code() == grpc.StatusCode.NOT_FOUND
                if last or not (elsewhere or is_busy(error.code(), error.details())):
                    raise translate(error.code(), error.details(), self._model) from error
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

    def _open(self) -> Any:
        """Return this process's channel; one inherited through a fork does not work and is left behind."""
        with self._lock:
            if self._channel is None or self._owner_pid != os.getpid():
                self._channel = grpc.insecure_channel(self._address, options=CHANNEL_OPTIONS)
                self._owner_pid = os.getpid()
            return self._channel


def is_busy(code: Any, details: str | None) -> bool:
    """Tell a server short of threads from a message over a size limit: both are RESOURCE_EXHAUSTED."""
    return code == grpc.StatusCode.RESOURCE_EXHAUSTED and BUSY in (details or "")


def translate(code: Any, details: str | None, model: str) -> BackendError:
    """Return the error for a gRPC status. ``details`` decides, and is kept as the reason, but never told to clients."""
    codes = grpc.StatusCode
    reason = f"{code.name}: {details}"
    if code == codes.UNAVAILABLE:
        return ModelUnavailable("the model server cannot be reached", reason)
    if is_busy(code, details):
        return ModelUnavailable("the model server is busy", reason)
    if code == codes.NOT_FOUND:
        return ModelUnavailable(f"the model server must serve model {model!r}, got NOT_FOUND", reason)
    if code == codes.DEADLINE_EXCEEDED:
        return ModelTimeout("the model server did not answer within the deadline", reason)
    if code in (codes.INVALID_ARGUMENT, codes.FAILED_PRECONDITION):
        return ContractViolation(f"model {model!r} must accept what its contract says, got {code.name}", reason)
    return BackendError(f"the model server must answer OK, got {code.name}", reason)
