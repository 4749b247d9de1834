"""Whose call may begin: a limit on calls at once, first come first served, and pauses while the server is busy.

*Strategy*. A busy server refuses a call at once and names no time. So the calls of this process stand in one line, and
a refused call keeps its place in it. The first in line begins again when another call of the process has ended, for
then the server has room, or after a pause. Pauses double with each refusal, from 0.05 s to 1 s, and vary at random, so
that processes do not ask in step. While the server is busy, each pause and each ended call lets one call begin.

A call that has waited does not begin if the rest of its time is less than the fastest of the last answers took.
"""

import bisect
import itertools
import math
import random
import threading
import time
from collections import deque

FIRST_PAUSE_S = 0.05
MAX_PAUSE_S = 1.0
ANSWERS_KEPT = 16


def pause_s(repeats: int) -> float:
    """Return the seconds to wait before a call is repeated for the ``repeats``-th time, from 1: doubling, random."""
    longest_s = min(MAX_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(repeats - 1, 10))
    return longest_s * random.uniform(0.5, 1.5)  # noqa: S311 - no secret: it spreads calls


class Turns:
    """Lets ``limit`` calls run at once, 0 or None for any number. Thread-safe; may be forked before its first call."""

    def __init__(self, limit: int | None = None) -> None:
        self._limit = limit or math.inf
        self._tickets = itertools.count()
        self._changed = threading.Condition()
        self._waiting: list[int] = []  # tickets, the first in line first
        self._running = 0
        self._refusals = 0  # since a call was answered; above 0 the server is busy
        self._resume_s = 0.0  # monotonic: when the first in line may begin
        self._answers_s: deque[float] = deque(maxlen=ANSWERS_KEPT)

    def ticket(self) -> int:
        """Return the place in line of a new call."""
        return next(self._tickets)

    def fastest_s(self) -> float:
        """Return the seconds of the fastest of the last answers, 0 before the first."""
        with self._changed:
            return min(self._answers_s, default=0.0)

    def begin(self, ticket: int, end_s: float) -> bool:
        """Wait until the call may run; every such call must :meth:`end`. False if it cannot make ``end_s`` any more."""
        with self._changed:
            bisect.insort(self._waiting, ticket)
            try:
                while (wait_s := self._wait_s(ticket)) > 0:
                    left_s = end_s - self.fastest_s() - time.monotonic()
                    if left_s <= 0:
                        return False
                    self._changed.wait(min(wait_s, left_s))
                self._running += 1
                if self._refusals:
                    self._resume_s = time.monotonic() + pause_s(self._refusals)
                return True
            finally:
                self._waiting.remove(ticket)
                self._changed.notify_all()

    def end(self, took_s: float | None = None, *, refused: bool = False) -> None:
        """End a call. ``took_s``: until its answer, None without one. ``refused``: because the server is busy."""
        with self._changed:
            self._running -= 1
            if refused:
                self._refusals += 1
                self._resume_s = time.monotonic() + pause_s(self._refusals)
            else:
                self._refusals = min(self._refusals, 1) if self._waiting else 0
                self._resume_s = 0.0
            if took_s is not None:
                self._answers_s.append(took_s)
            self._changed.notify_all()

    def _wait_s(self, ticket: int) -> float:
        if self._waiting[0] != ticket or self._running >= self._limit:
            return math.inf
        return self._resume_s - time.monotonic()
