"""gunicorn's worker: it bounds the time that a client takes, and keeps a thread for probes.

*Strategy*. A thread that waits costs little, so each connection with a request has one, slow clients included. How many
images are worked on at once is up to :mod:`handler.web.load`. So neither slow clients nor a slow model stop /health.
"""

import logging
import resource
import socket
import struct
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, ClassVar, TypeVar

import gunicorn.config
import msgspec
from gunicorn import util
from gunicorn.http.errors import NoMoreData
from gunicorn.workers import gthread

from handler.errors import RequestTimeout
from handler.web.schemas import PROBLEM, Problem

LAST_S = 0.1  # others may come as fast as they are accepted
MAX_CONNECTIONS = 1000  # of a worker
MAX_LINE_BYTES = 8190  # of the first line: method, path, query and version
MAX_THREADS = 256  # of a worker; containers limit them, too
DISCARD = struct.pack("ii", 1, 0)  # SO_LINGER: a close drops what is not sent, which the kernel would keep
R = TypeVar("R")
logger = logging.getLogger("segment.web")


class TooSlow(NoMoreData, TimeoutError):  # type: ignore[misc] # noqa: N818 - it says what the client is
    """The client took too long. To gunicorn it is a client that has gone, which leaves no traceback in the log."""

    def __str__(self) -> str:
        return str(self.buf)


class ClientSocket(socket.socket):
    """A connection that waits for its client a limited time in all: for one request, and as long for its answer.

    ``timeout_s``: the limit. ``started``, ``late``: True if a part of the request came, and the rest too late.
    ``answered``: True if a part of the answer is sent. ``on_late``: called before TooSlow.
    """

    timeout_s = read_left_s = send_left_s = 0.0
    started = late = answered = False
    on_late: Callable[[], None] | None = None

    def renew(self, timeout_s: float) -> None:
        """Expect the next request."""
        self.timeout_s = self.read_left_s = self.send_left_s = timeout_s
        self.started = self.late = self.answered = False
        self.on_late = None

    def recv(self, size: int) -> bytes:  # type: ignore[override] # gunicorn gives no flags
        """Return what has come, at most ``size`` bytes. Raises TooSlow."""
        started_s = time.monotonic()
        try:
            data = self._within(self.read_left_s, super().recv, size)
        except (TimeoutError, BlockingIOError) as error:
            self.late = True
            if self.on_late:
                self.on_late()
            raise TooSlow(f"the request must arrive within {self.timeout_s:g} s, got a part of it") from error
        finally:
            self.read_left_s -= time.monotonic() - started_s
        self.started = True
        return data

    def sendall(self, data: bytes) -> None:  # type: ignore[override] # gunicorn gives no flags
        """Send everything. Raises TooSlow."""
        self.answered = True
        rest = memoryview(data)
        while rest:
            started_s = time.monotonic()
            try:
                rest = rest[self._within(self.send_left_s, super().send, rest) :]
            except (TimeoutError, BlockingIOError) as error:
                raise TooSlow(f"the client must read its answer within {self.timeout_s:g} s, it reads less") from error
            finally:
                self.send_left_s -= time.monotonic() - started_s

    def _within(self, left_s: float, call: Callable[..., R], arg: Any) -> R:
        """Call a method of the socket within ``left_s``. First without a timeout: it seldom has to wait."""
        outer_s = self.gettimeout()
        if outer_s is None:
            with suppress(BlockingIOError):
                return call(arg, socket.MSG_DONTWAIT)
        self.settimeout(max(left_s, 0.0) if outer_s is None else min(outer_s, max(left_s, 0.0)))
        try:
            return call(arg)
        finally:
            self.settimeout(outer_s)


class Worker(gthread.ThreadWorker):  # type: ignore[misc] # gunicorn has no types
    """A threaded worker with a thread for each connection that has a request."""

    client_timeout_s: ClassVar[float] = 60.0
    sockets: list[Any]  # the listeners

    def init_process(self) -> None:
        """Limit the first line of a request: functions-framework switches that off, and gunicorn reads on for ever."""
        self.cfg.set("limit_request_line", MAX_LINE_BYTES)
        super().init_process()

    def get_thread_pool(self) -> ThreadPoolExecutor:
        """Return a pool that starts threads as they are needed."""
        return ThreadPoolExecutor(max(MAX_THREADS, self.cfg.threads))

    def set_accept_enabled(self, enabled: bool) -> None:
        """Accept connections, or not. A worker that ends takes those that are there, and refuses others at once."""
        super().set_accept_enabled(enabled)
        if enabled or self.alive:
            return
        listeners, self.sockets = self.sockets, []
        for listener in listeners:
            before, end_s = -1, time.monotonic() + LAST_S
            while before < self.nr_conns and time.monotonic() < end_s:
                before = self.nr_conns
                self.accept(listener)
            listener.close()
        for conn in self.pending_conns:  # they have sent nothing
            conn.timeout = 0.0

    def enqueue_req(self, conn: Any) -> None:
        """Give a connection to a thread."""
        if not isinstance(conn.sock, ClientSocket):
            conn.sock = ClientSocket(fileno=conn.sock.detach())
        super().enqueue_req(conn)

    def on_client_socket_readable(self, conn: Any, client: Any) -> None:
        """Give a connection with a request to a thread. One that the client has closed needs none."""
        if _arrived(client) != b"":
            super().on_client_socket_readable(conn, client)
            return
        self.poller.unregister(client)
        self.keepalived_conns.remove(conn)
        self.nr_conns -= 1
        conn.close()

    def handle(self, conn: Any) -> Any:
        """Handle one request. The result says whether the connection goes on; if not, it is closed."""
        conn.sock.renew(self.client_timeout_s)
        conn.data_ready = conn.data_ready or _arrived(conn.sock) is not None  # else gunicorn makes a selector to wait
        goes_on = super().handle(conn)
        if not goes_on:
            if conn.sock.late and conn.sock.started and not conn.sock.answered:
                self._answer_late_headers(conn.sock)
            util.close_graceful(conn.sock)  # gunicorn does so in the thread that accepts, and waits there for 2 s
        return goes_on

    def finish_request(self, conn: Any, fs: Any) -> None:
        """Wait for the next request of a connection that goes on, in the thread that accepts connections."""
        if conn.sock.fileno() < 0:
            self.nr_conns -= 1
            return
        super().finish_request(conn, fs)
        if not conn.initialized:  # it has sent nothing yet
            conn.timeout = time.monotonic() + self.client_timeout_s

    def handle_request(self, req: Any, conn: Any) -> Any:
        """Answer one request. The result says whether the connection goes on."""
        conn.sock.on_late = req.force_close
        try:
            return super().handle_request(req, conn)
        except TooSlow as error:
            logger.warning("%s %s: %s", req.method, req.path, error)
            conn.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, DISCARD)
            conn.sock.close()
            return False

    def _answer_late_headers(self, client: ClientSocket) -> None:
        """Answer a client that has sent a part of its headers, which the application does not see."""
        error = RequestTimeout(f"the request must arrive within {self.client_timeout_s:g} s, got a part of its headers")
        request_id = uuid.uuid4().hex
        fields = {"request_id": request_id, "status": error.status, "detail": error.detail}
        logger.warning("headers %d", error.status, extra={"fields": fields})
        body = msgspec.json.encode(Problem(error.title, error.status, error.detail, request_id))
        head = (
            f"HTTP/1.1 {error.status} {error.title}\r\nContent-Type: {PROBLEM}\r\nContent-Length: {len(body)}\r\n"
            f"X-Request-Id: {request_id}\r\nConnection: close\r\n\r\n"
        )
        with suppress(OSError):  # the client has gone
            client.sendall(head.encode() + body)


def _arrived(client: socket.socket) -> bytes | None:
    """Return the next byte from the client, which stays to be read: b"" at the end, None if nothing has come."""
    with suppress(OSError):
        return socket.socket.recv(client, 1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    return None


def install(keep_alive_s: int, client_timeout_s: float) -> None:
    """Let functions-framework start gunicorn with this worker.

    functions-framework has no way to pass such settings, and its gunicorn reads neither files nor variables. So they
    become gunicorn's defaults. ``keep_alive_s``: seconds that a connection stays open without a request.
    """
    Worker.client_timeout_s = client_timeout_s
    gunicorn.config.WorkerClass.default = Worker
    gunicorn.config.Keepalive.default = keep_alive_s
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files != resource.RLIM_INFINITY:  # a worker ends if a connection finds no file
        gunicorn.config.WorkerConnections.default = min(MAX_CONNECTIONS, files // 2)
