"""A TCP relay whose connections can die in silence, as when a host vanishes or a NAT forgets them: no FIN, no RST."""

import socket
import threading
from contextlib import contextmanager, suppress

HOST = "127.0.0.1"
BLOCK_BYTES = 1 << 16


class Relay:
    """Hands bytes on between its clients and ``target``, host:port. ``address``: its own, host:port."""

    def __init__(self, target):
        self._target = target.rsplit(":", 1)
        self._listening = socket.create_server((HOST, 0))
        self.address = f"{HOST}:{self._listening.getsockname()[1]}"
        self._lock = threading.Lock()
        self._sockets = []
        self._closed = False
        self._silent = threading.Event()  # of the connections that are accepted now
        self.accepted = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def silence(self):
        """Swallow from now on what the connections that are open send, in both directions; serve new ones."""
        with self._lock:
            self._silent.set()
            self._silent = threading.Event()

    def close(self):
        """End every connection."""
        self._listening.close()
        with self._lock:
            self._closed = True
            for one in self._sockets:
                one.close()

    def _keep(self, one):
        """Return a socket that :meth:`close` ends, also if the relay is closed already."""
        with self._lock:
            self._sockets.append(one)
            if self._closed:
                one.close()
        return one

    def _accept(self):
        with suppress(OSError):
            while True:
                near = self._keep(self._listening.accept()[0])
                far = self._keep(socket.create_connection((self._target[0], int(self._target[1]))))
                with self._lock:
                    self.accepted += 1
                    silent = self._silent
                for source, sink in ((near, far), (far, near)):
                    sink.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    threading.Thread(target=_pump, args=(source, sink, silent), daemon=True).start()


def _pump(source, sink, silent):
    with suppress(OSError):
        while block := source.recv(BLOCK_BYTES):
            if not silent.is_set():
                sink.sendall(block)
        if not silent.is_set():
            sink.shutdown(socket.SHUT_WR)


@contextmanager
def relay(target):
    """Yield a relay before the server at ``target``."""
    one = Relay(target)
    try:
        yield one
    finally:
        one.close()
