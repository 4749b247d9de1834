"""Ctrl-C, ``kill`` and a closed terminal, all as KeyboardInterrupt: one ``finally`` cleans up after any of them."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def stop_signals() -> Iterator[None]:
    """Raise KeyboardInterrupt in the main thread on any of the STOPPING signals."""

    def stop(number: int, _frame: Any) -> None:
        raise KeyboardInterrupt(signal.Signals(number).name)

    with _handlers(stop):
        yield


@contextmanager
def deferred_signals() -> Iterator[None]:
    """Raise KeyboardInterrupt only after the block. Ignored signals would stay ignored in programs started in it."""
    received: list[int] = []
    with _handlers(lambda number, _frame: received.append(number)):
        yield
    if received:
        raise KeyboardInterrupt(signal.Signals(received[0]).name)


@contextmanager
def _handlers(handler: Any) -> Iterator[None]:
    before = {number: signal.signal(number, handler) for number in STOPPING}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)
