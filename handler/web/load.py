"""What one process takes on at once: images that are worked on, and bytes of bodies. The other requests wait."""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from handler.errors import Busy


class Load:
    """The requests of one process. Thread-safe; may be forked before its first request.

    ``requests``: images worked on at once. ``body_bytes``: of all bodies in memory. ``wait_s``: most time to wait for
    either.
    """

    def __init__(self, requests: int, body_bytes: int, wait_s: float) -> None:
        self._body_bytes = body_bytes
        self._wait_s = wait_s
        self._lock = threading.Lock()
        self._free = requests
        self._line: deque[threading.Event] = deque()
        self._changed = threading.Condition(self._lock)
        self._kept: dict[object, int] = {}  # bytes of each body, the oldest first

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Work on an image; wait for the turn, first come first served. Raises Busy if it does not come in time."""
        self._begin()
        try:
            yield
        finally:
            with self._lock:
                if self._line:
                    self._line.popleft().set()
                else:
                    self._free += 1

    def _begin(self) -> None:
        with self._lock:
            if self._free:
                self._free -= 1
                return
            mine = threading.Event()
            self._line.append(mine)
        if mine.wait(self._wait_s):
            return
        with self._lock:
            if mine.is_set():
                return
            self._line.remove(mine)
        raise Busy(f"the function must come to a request within {self._wait_s:g} s, got too many of them")

    @contextmanager
    def body(self) -> Iterator[Callable[[int], None]]:
        """Yield a function that makes room for some more bytes of a body, which stay until the end of the block.

        If there is no room, all but the oldest body wait for it, so that some of them end. Raises Busy if the room does
        not come in time.
        """
        mine = object()

        def fits(size: int) -> bool:
            return sum(self._kept.values()) + size <= self._body_bytes or next(iter(self._kept)) is mine

        def keep(size: int) -> None:
            with self._changed:
                self._kept.setdefault(mine, 0)
                if not self._changed.wait_for(lambda: fits(size), self._wait_s):
                    raise Busy(f"the bodies of all requests must be at most {self._body_bytes} bytes, got more")
                self._kept[mine] += size

        try:
            yield keep
        finally:
            with self._changed:
                self._kept.pop(mine, None)
                self._changed.notify_all()
