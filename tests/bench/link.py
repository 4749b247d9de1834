"""A link of a certain rate between the function and the backend: a relay that holds every byte back until it is due."""

import socket
import threading
import time
from contextlib import contextmanager, suppress

from deploy.local.stack import HOST

BLOCK_BYTES = 1 << 14
BURST_S = 0.002  # what a late wake-up may make up for: as much as a link's own buffer


class Link:
    """Relays connections to ``target``, host:port, with ``gbit_per_s`` each way. ``address``: its own."""

    def __init__(self, target, gbit_per_s):
        self._target = target.rsplit(":", 1)
        self._bytes_per_s = gbit_per_s * 1e9 / 8
        self._listening = socket.create_server((HOST, 0))
        self.address = f"{HOST}:{self._listening.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        """Accept no further connection; those that are open end with their clients."""
        self._listening.close()

    def _accept(self):
        with suppress(OSError):
            while True:
                near = self._listening.accept()[0]
                far = socket.create_connection((self._target[0], int(self._target[1])))
                threading.Thread(target=self._relay, args=(near, far), daemon=True).start()

    def _relay(self, near, far):
        """Relay both ways until both have ended, and close both sockets."""
        with near, far:
            back = threading.Thread(target=self._pump, args=(far, near), daemon=True)
            back.start()
            self._pump(near, far)
            back.join()

    def _pump(self, source, sink):
        due_s = 0.0
        with suppress(OSError):
            sink.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while block := source.recv(BLOCK_BYTES):
                due_s = max(due_s, time.perf_counter() - BURST_S) + len(block) / self._bytes_per_s
                time.sleep(max(0.0, due_s - time.perf_counter()))
                sink.sendall(block)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)


@contextmanager
def link(target, gbit_per_s):
    """Yield a link before the server at ``target``."""
    one = Link(target, gbit_per_s)
    try:
        yield one
    finally:
        one.close()
