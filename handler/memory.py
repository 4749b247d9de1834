"""How much memory decoding may take at once, and the line of the images that wait for it.

*Strategy*. What an image will take is known before it is decoded. It begins if so much is free. Else it waits in line,
and what others give back goes to the first in line that fits. So small images pass large ones. But each may be passed
MAX_PASSES times only: then nothing behind it begins before it does, and it waits no longer than those that run.

A large image delays no other one. Its decoder runs long, and without Python's lock, so the image is away meanwhile: see
:mod:`handler.web.load`.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext

import msgspec

from handler.errors import Busy, TooLarge
from handler.types import Away

MAX_PASSES = 16
LARGE_BYTES = 100_000_000  # an image that takes more is away while it is decoded
PROCESS_BYTES = 100_000_000  # of a worker without requests
REQUEST_BYTES = 8_000_000  # of a request beside its photograph: tensors, messages, the answer
LEAST_SHARE = 0.25  # of the limit, for decoding, if a worker with all its requests leaves less

Reserve = Callable[[int], None]  # waits until so many bytes may be taken


class _Waiting(msgspec.Struct, eq=False):
    """An image in line, and how often another one passed it."""

    cost_bytes: int
    passed: int = 0


class Memory:
    """Lets images be decoded that take at most ``budget_bytes`` together. May be forked before its first use.

    ``away``: entered by an image while it waits in line, or is decoded and takes more than LARGE_BYTES.
    """

    def __init__(self, budget_bytes: int, away: Away = nullcontext) -> None:
        self.budget_bytes = budget_bytes
        self._away = away
        self._free_bytes = budget_bytes
        self._line: list[_Waiting] = []  # the first in line first
        self._changed = threading.Condition()

    @contextmanager
    def room(self, end_s: float) -> Iterator[Reserve]:
        """Yield a function that reserves bytes for one request, until the block ends.

        It waits until ``end_s``, monotonic. Who asks for more than it has gives that back first, and waits anew. Raises
        Busy if no turn comes in time, TooLarge if there will never be so much.
        """
        held_bytes = 0
        with ExitStack() as held:

            def reserve(cost_bytes: int) -> None:
                nonlocal held_bytes
                if cost_bytes <= held_bytes:
                    return
                held.close()
                held_bytes = 0
                if cost_bytes > LARGE_BYTES:
                    held.enter_context(self._away())
                self._take(cost_bytes, end_s)
                held.callback(self._give_back, cost_bytes)
                held_bytes = cost_bytes

            yield reserve

    def _take(self, cost_bytes: int, end_s: float) -> None:
        if cost_bytes > self.budget_bytes:
            raise TooLarge(
                f"the image must take at most {self.budget_bytes} bytes of memory to decode, got one of {cost_bytes}"
            )
        mine = _Waiting(cost_bytes)
        with self._changed:
            self._line.append(mine)
            at_once = self._is_next(mine)
            if at_once:
                self._begin(mine)
        if not at_once:
            with self._away(), self._changed:  # in this order: who comes back may wait, and must not hold the lock
                self._wait(mine, end_s)

    def _wait(self, mine: _Waiting, end_s: float) -> None:
        while not self._is_next(mine):
            left_s = end_s - time.monotonic()
            if left_s <= 0:
                self._leave(mine)
                raise Busy(
                    f"the image must find {mine.cost_bytes} bytes of memory to decode, got {self._free_bytes} "
                    "beside other images; send it again later"
                )
            self._changed.wait(left_s)
        self._begin(mine)

    def _begin(self, mine: _Waiting) -> None:
        self._free_bytes -= mine.cost_bytes
        for other in self._ahead_of(mine):
            other.passed += 1
        self._leave(mine)

    def _leave(self, mine: _Waiting) -> None:
        self._line.remove(mine)
        self._changed.notify_all()

    def _give_back(self, held_bytes: int) -> None:
        with self._changed:
            self._free_bytes += held_bytes
            self._changed.notify_all()

    def _is_next(self, mine: _Waiting) -> bool:
        free = self._free_bytes
        return mine.cost_bytes <= free and all(
            other.cost_bytes > free and other.passed < MAX_PASSES for other in self._ahead_of(mine)
        )

    def _ahead_of(self, mine: _Waiting) -> list[_Waiting]:
        return self._line[: self._line.index(mine)]


def default_bytes(limit_bytes: int, workers: int, requests: int) -> int:
    """Return what decoding may take in one worker: its share of the limit, less what the worker and its requests need.

    ``requests``: those that a worker works on at once.
    """
    share = limit_bytes // max(1, workers)
    return max(int(LEAST_SHARE * share), share - PROCESS_BYTES - requests * REQUEST_BYTES)
