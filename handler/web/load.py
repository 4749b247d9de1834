"""What one process takes on at once: images, and bytes of bodies. The other requests wait.

*Strategy* for images. An image is worked on, or it is away: it waits for the model or for memory. As many are worked on
at once as there are processors: more would only take turns at Python's lock. An image that comes back goes before those
that begin. So with a fast model few images are in the function at a time, and with a slow one many.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from handler.errors import Busy

RETURN_S = 1.0  # an image that comes back waits so long for a processor, and then goes on without one


class Load:
    """The requests of one process. Thread-safe; may be forked before its first request.

    ``requests``: images at once, also those that are away. ``processors``: images worked on at once. ``body_bytes``: of
    all bodies in memory. ``wait_s``: most time to wait for a turn, or for room for a body.
    """

    def __init__(self, requests: int, processors: int, body_bytes: int, wait_s: float) -> None:
        self._body_bytes = body_bytes
        self._wait_s = wait_s
        self._lock = threading.Lock()
        self._places = requests  # those that are free
        self._processors = processors  # those that are free; below zero if images go on without one
        self._beginners: deque[threading.Event] = deque()
        self._returners: deque[threading.Event] = deque()
        self._mine = threading.local()  # ``works``: True while the image of this thread is worked on
        self._changed = threading.Condition(self._lock)
        self._kept: dict[object, int] = {}  # bytes of each body, the oldest first

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Work on an image; wait for the turn, first come first served. Raises Busy if it does not come in time."""
        if not self._ask(self._beginners, self._wait_s):
            raise Busy(f"the function must come to a request within {self._wait_s:g} s, got too many of them")
        self._mine.works = True
        try:
            yield
        finally:
            self._mine.works = False
            self._give_back(places=1)

    @contextmanager
    def away(self) -> Iterator[None]:
        """Let another image begin while this thread's image waits in the block. A thread without one just runs it."""
        if not getattr(self._mine, "works", False):
            yield
            return
        self._mine.works = False
        self._give_back()
        try:
            yield
        finally:
            self._mine.works = True
            if not self._ask(self._returners, RETURN_S):
                with self._lock:
                    self._processors -= 1

    def _ask(self, line: deque[threading.Event], wait_s: float) -> bool:
        """Wait in line for a processor. False if none comes in time."""
        mine = threading.Event()
        with self._lock:
            line.append(mine)
            self._admit()
        if mine.wait(wait_s):
            return True
        with self._lock:
            if not mine.is_set():
                line.remove(mine)
            return mine.is_set()

    def _give_back(self, places: int = 0) -> None:
        with self._lock:
            self._places += places
            self._processors += 1
            self._admit()

    def _admit(self) -> None:
        while self._processors > 0 and (self._returners or (self._beginners and self._places > 0)):
            self._processors -= 1
            if self._returners:
                self._returners.popleft().set()
            else:
                self._places -= 1
                self._beginners.popleft().set()

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
