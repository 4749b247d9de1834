"""The gRPC channel to TensorFlow Serving: TLS, deadlines, retries, dead connections, and status codes -> errors.

*Retries*. Every call reads, so it may be repeated until its deadline:

- UNAVAILABLE. The server is being started, or the connection is lost. Not if its certificate is refused.
- CANCELLED. The server stops, and ends the calls that it has begun.
- RESOURCE_EXHAUSTED, if its message says that the server is busy. Otherwise a message is over a size limit.
- NOT_FOUND and an unknown version label, 16 times. During a rollout, another replica may serve this version.
- UNAUTHENTICATED, once, with a new ID token.

*Dead connections*. A host can vanish, or a NAT can forget a connection, and no packet tells the client. While a call
waits, gRPC therefore pings after a third of the deadline without a byte. If no answer comes within a sixth, it ends the
connection, and half of the deadline is left for another one. The server of a slow model answers pings, so it is not
taken for dead. By default, a server ends the connection as ``too_many_pings`` at the fourth ping if it sent no byte
between them and they came less than five minutes apart. A third of the deadline stays below that, and so does the
default of ``max_pings_without_data``, two. If a call waits in vain until its deadline nevertheless, the next call opens
another channel.
"""

import itertools
import json
import logging
import os
import random
import threading
import time
from contextlib import nullcontext
from typing import Any

import grpc

from handler.backend.proxy import describe_proxy
from handler.backend.tls import Fingerprint, Tls
from handler.backend.tokens import Metadata, Tokens
from handler.backend.turns import Turns, pause_s
from handler.errors import BackendError, ConfigError, ModelTimeout, ModelUnavailable, NotServed, RequestRefused
from handler.types import Away

logger = logging.getLogger("segment.channel")
BUSY = "Server Threadpool Exhausted"
QUEUE_FULL = "batch scheduling queue"  # of a server that joins requests to batches
NOT_TOGETHER = "padding is turned off", "Batched output tensor"  # such a server's words
CLOSED = "Socket closed"
UNTRUSTED = "CERTIFICATE_VERIFY_FAILED", "Hostname Verification Check failed"
NO_LABEL = "Unrecognized servable version label"
REPLICA_ATTEMPTS = 16  # if one of two replicas has the version, all attempts miss it once in 65,536 calls
REPLICA_WAIT_S = 0.02  # at most; random, or clients in step would meet the same replica each time
SILENT_S = 1.0  # a call that waited less in vain, after repeats, tells nothing about its connection
PING_S, PING_ANSWER_S = (1.0, 310.0), (1.0, 20.0)  # bounds; servers allow any number of pings five minutes apart
CHANNEL_OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.enable_retries", 0),  # done here, where they are counted
    ("grpc.use_local_subchannel_pool", 1),  # else a new channel would share the dead connection of the old one
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2000),  # by default, it takes up to 2 minutes to notice that a server is back
    ("grpc.service_config", json.dumps({"loadBalancingConfig": [{"round_robin": {}}]})),
]


class Channel:
    """Calls one server for one model. Thread-safe; may be forked before its first call.

    ``address``: any address that gRPC resolves. ``model``: its name, for errors. ``tls``: None for plaintext.
    ``audience``: of the ID token, "" for no token. ``deadline_s``: of most calls; pings follow it. ``away``: entered
    while an image waits for a call.
    Raises ConfigError if a file of ``tls`` cannot be used.
    """

    def __init__(
        self,
        address: str,
        model: str,
        tls: Tls | None = None,
        audience: str = "",
        deadline_s: float = 20.0,
        *,
        away: Away = nullcontext,
    ) -> None:
        if audience and tls is None:
            raise ConfigError("an ID token must go over TLS, got an address in plaintext")
        self._address = address
        self._model = model
        self._tls = tls
        self._silent_s = min(SILENT_S, deadline_s / 4)
        self._away = away
        self._options = [*CHANNEL_OPTIONS, *ping_options(deadline_s)]
        self._tokens = Tokens(audience) if audience else None
        self._lock = threading.Lock()
        self._channel: Any = None
        self._callables: dict[str, Any] = {}  # of the channel, by method
        self._opened_with: tuple[int, Fingerprint | None] | None = None  # process id, certificates
        if tls is not None:
            tls.read()  # raises ConfigError at the start, not during a request

    def call(self, method: str, request: bytes, end_s: float) -> bytes:
        """Return the response's bytes. ``end_s``: the deadline, monotonic. Raises what :func:`translate` returns."""
        response, _ = self.call_in_turn(method, request, end_s, Turns())
        return response

    def call_in_turn(self, method: str, request: bytes, end_s: float, turns: Turns) -> tuple[bytes, int]:
        """Return the response's bytes and how often the call was repeated; begin it when ``turns`` lets it."""
        with self._away():
            return self._call_in_turn(method, request, end_s, turns)

    def _call_in_turn(self, method: str, request: bytes, end_s: float, turns: Turns) -> tuple[bytes, int]:
        ticket = turns.ticket()
        failure: BackendError | None = None
        for attempt in itertools.count():
            if not turns.begin(ticket, end_s):
                raise failure or ModelUnavailable("the model server is busy", "no turn came within the deadline")
            took_s: float | None = None
            refused = False
            try:
                metadata = self._metadata(end_s)
                (channel, invoke), started_s = self._open(method), time.monotonic()
                response: bytes = invoke(request, timeout=max(0.001, end_s - started_s), metadata=metadata)
                took_s = time.monotonic() - started_s
            except grpc.RpcError as error:
                refused = is_busy(error.code(), error.details())
                late = error.code() == grpc.StatusCode.DEADLINE_EXCEEDED
                silent = late and time.monotonic() - started_s >= self._silent_s
                if silent:
                    self._drop(channel)
                if silent or not late or failure is None:  # else the attempt before tells more
                    reason = f"{self._explain(error, metadata)}{f'; repeated {attempt} times' if attempt else ''}"
                    failure = translate(error.code(), reason, self._model)
                wait_s = self._retry_wait_s(error, attempt, metadata)
                if wait_s is None or time.monotonic() + wait_s + turns.fastest_s() >= end_s:
                    raise failure from error
            else:
                return response, attempt
            finally:
                turns.end(took_s, refused=refused)
            time.sleep(wait_s)
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
        if code == grpc.StatusCode.UNAUTHENTICATED and self._tokens and metadata and attempt == 0:
            self._tokens.forget(metadata)  # the token may be revoked, or the clocks differ
            return pause_s(1)
        if is_busy(code, details):
            return 0.0  # the turns have the pauses
        if is_gone(code) and not any(text in (details or "") for text in UNTRUSTED):
            return pause_s(attempt + 1)
        if is_absent(code, details) and attempt < REPLICA_ATTEMPTS - 1:
            return random.uniform(0, REPLICA_WAIT_S)  # noqa: S311
        return None

    def _drop(self, channel: Any) -> None:
        """Let the next call open another channel. Others may finish on this one."""
        with self._lock:
            if self._channel is channel:
                self._channel = None

    def _open(self, method: str) -> tuple[Any, Any]:
        """Return the channel of this process, and what calls ``method`` there.

        A new channel is opened if the certificates have changed and can be read. A channel that is inherited through a
        fork does not work. Calls that run on an old channel may finish there.
        """
        with self._lock:
            pid, fingerprint = os.getpid(), self._tls.fingerprint() if self._tls else None
            if self._channel is None or self._opened_with != (pid, fingerprint):
                try:
                    self._channel = self._connect()
                    self._callables = {}
                except ConfigError as error:
                    if self._channel is None or self._opened_with is None or self._opened_with[0] != pid:
                        raise ModelUnavailable("the function's certificates must be readable", str(error)) from error
                    logger.warning("the certificates are kept, because the new ones cannot be used: %s", error)
                self._opened_with = pid, fingerprint
            if method not in self._callables:  # making one takes 0.1 ms
                self._callables[method] = self._channel.unary_unary(method)
            return self._channel, self._callables[method]

    def _connect(self) -> Any:
        if self._tls is None:
            return grpc.insecure_channel(self._address, options=self._options)
        ca, key, cert = self._tls.read()
        credentials = grpc.ssl_channel_credentials(ca, key, cert)
        name = self._tls.server_name
        override = [("grpc.ssl_target_name_override", name)] if name else []
        return grpc.secure_channel(self._address, credentials, options=self._options + override)


def ping_options(deadline_s: float) -> list[tuple[str, int]]:
    """Return the options of gRPC that end a connection whose other end is gone.

    ``keepalive_timeout_ms`` alone does not do that in gRPC 1.85. It is also the TCP_USER_TIMEOUT of the socket: Linux
    ends a connection whose packets nobody acknowledges for so long.
    """
    after_s = min(max(deadline_s / 3, PING_S[0]), PING_S[1])
    answer_s = min(max(deadline_s / 6, PING_ANSWER_S[0]), PING_ANSWER_S[1])
    return [
        ("grpc.keepalive_time_ms", round(1000 * after_s)),
        ("grpc.keepalive_timeout_ms", round(1000 * answer_s)),
        ("grpc.http2.ping_timeout_ms", round(1000 * answer_s)),
    ]


def is_gone(code: Any) -> bool:
    """Return True if the server is not there, or stops during the call."""
    return code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)


def is_busy(code: Any, details: str | None) -> bool:
    """Return True if the server has no free thread, or no place in its queue of batches.

    A message over a size limit has the status code of the first, a server that is gone that of the second.
    """
    words = {grpc.StatusCode.RESOURCE_EXHAUSTED: BUSY, grpc.StatusCode.UNAVAILABLE: QUEUE_FULL}
    return code in words and words[code] in (details or "")


def is_absent(code: Any, details: str | None) -> bool:
    """Return True if the server does not serve the model, or this version or label of it."""
    unknown_label = code == grpc.StatusCode.INVALID_ARGUMENT and NO_LABEL in (details or "")
    return unknown_label or code == grpc.StatusCode.NOT_FOUND


def translate(code: Any, details: str | None, model: str) -> BackendError:  # noqa: PLR0911 - a table of statuses
    """Return the error for a gRPC status. ``details`` becomes its reason, which only the log gets."""
    codes = grpc.StatusCode
    reason = f"{code.name}: {details}"
    if is_busy(code, details):
        return ModelUnavailable("the model server is busy", reason)
    if is_gone(code):
        return ModelUnavailable("the model server cannot be reached", reason)
    if code in (codes.UNAUTHENTICATED, codes.PERMISSION_DENIED):
        return ModelUnavailable(f"the model server must let the function in, got {code.name}", reason)
    if code == codes.INVALID_ARGUMENT and NO_LABEL in (details or ""):
        return NotServed(f"the model server must know the version label of model {model!r}", reason)
    if code == codes.NOT_FOUND:
        return NotServed(f"the model server must serve model {model!r}, got NOT_FOUND", reason)
    if code == codes.DEADLINE_EXCEEDED:
        return ModelTimeout("the model server did not answer within the deadline", reason)
    if code == codes.FAILED_PRECONDITION and any(text in (details or "") for text in NOT_TOGETHER):
        expected = "take the requests that its server joins (batching), or the server must leave them apart"
        return RequestRefused(f"model {model!r} must {expected}, got {code.name}", reason)
    if code in (codes.INVALID_ARGUMENT, codes.FAILED_PRECONDITION):
        return RequestRefused(f"model {model!r} must accept what its contract says, got {code.name}", reason)
    return BackendError(f"the model server must answer OK, got {code.name}", reason)
