"""Ctrl-C, ``kill`` and a closed terminal, all as KeyboardInterrupt, so that one ``finally`` cleans up after any."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def stop_signals() -> Iterator[None]:
    """Raise KeyboardInterrupt in the main thread when one of the stop signals comes."""

    def stop(number: int, _frame: Any) -> None:
        raise KeyboardInterrupt(signal.Signals(number).name)

    with _handlers(stop):
        yield


@contextmanager
def deferred_signals() -> Iterator[None]:
    """Let what is inside finish first. A signal that is ignored would stay ignored in programs started meanwhile."""
    came: list[int] = []
    with _handlers(lambda number, _frame: came.append(number)):
        yield
    if came:
        raise KeyboardInterrupt(signal.Signals(came[0]).name)


@contextmanager
def _handlers(handler: Any) -> Iterator[None]:
    before = {number: signal.signal(number, handler) for number in STOPPING}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)
