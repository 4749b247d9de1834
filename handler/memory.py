"""How much memory and how many processors decoding may take at once, and the line of the images that wait for them.

*Strategy*. What an image will take is known before it is decoded. It begins if so much is free. Else it waits in line,
and what others give back goes to the first in line that fits. So small images pass large ones. But each may be passed
MAX_PASSES times only: then nothing behind it begins before it does, and it waits no longer than those that run.

An image that has its memory waits for a processor: more threads than processors only take turns at Python's lock, which
costs a sixth of the throughput. A large image waits for none and delays none: its decoder runs long, without the lock.
"""

import os
import resource
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePath

import msgspec

from handler.errors import Busy, TooLarge

MAX_PASSES = 16
LARGE_BYTES = 100_000_000  # an image that takes more waits for no processor
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

    ``processors``: one of them is taken with the memory, but not by an image of more than LARGE_BYTES.
    """

    def __init__(self, budget_bytes: int, processors: threading.Semaphore) -> None:
        self.budget_bytes = budget_bytes
        self._processors = processors
        self._free_bytes = budget_bytes
        self._line: list[_Waiting] = []  # the first in line first
        self._changed = threading.Condition()

    @contextmanager
    def room(self, end_s: float) -> Iterator[Reserve]:
        """Yield a function that reserves bytes and a processor for one request, until the block ends.

        It waits until ``end_s``, monotonic. Who asks for more than it has gives that back first, and waits anew. Raises
        Busy if no turn comes in time, TooLarge if there will never be so much.
        """
        held_bytes = 0

        def give_back() -> None:
            nonlocal held_bytes
            if 0 < held_bytes <= LARGE_BYTES:
                self._processors.release()
            self._give_back(held_bytes)
            held_bytes = 0

        def reserve(cost_bytes: int) -> None:
            nonlocal held_bytes
            if cost_bytes > held_bytes:
                give_back()
                self._take(cost_bytes, end_s)
                left_s = max(0.0, end_s - time.monotonic())
                if cost_bytes <= LARGE_BYTES and not self._processors.acquire(timeout=left_s):
                    self._give_back(cost_bytes)
                    raise Busy("the image must find a processor to decode it, got other images; send it again later")
                held_bytes = cost_bytes

        try:
            yield reserve
        finally:
            give_back()

    @contextmanager
    def processor(self, wait_s: float) -> Iterator[None]:
        """Hold a processor for the block, or none if it is not free within ``wait_s``: it only saves time."""
        held = self._processors.acquire(timeout=wait_s)
        try:
            yield
        finally:
            if held:
                self._processors.release()

    def _take(self, cost_bytes: int, end_s: float) -> None:
        if cost_bytes > self.budget_bytes:
            raise TooLarge(
                f"the image must take at most {self.budget_bytes} bytes of memory to decode, got one of {cost_bytes}"
            )
        mine = _Waiting(cost_bytes)
        with self._changed:
            self._line.append(mine)
            try:
                while not self._is_next(mine):
                    left_s = end_s - time.monotonic()
                    if left_s <= 0:
                        raise Busy(
                            f"the image must find {cost_bytes} bytes of memory to decode, got {self._free_bytes} "
                            "beside other images; send it again later"
                        )
                    self._changed.wait(left_s)
                self._free_bytes -= cost_bytes
                for other in self._ahead_of(mine):
                    other.passed += 1
            finally:
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


def find_limit(root: Path = Path("/")) -> tuple[int, str]:
    """Return the bytes of memory that the process may take, and what says so: a control group, or else the machine.

    ``root``: the folder with ``proc`` and ``sys``.
    """
    limits = [(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), "the machine"), *_group_limits(root)]
    address_space, _ = resource.getrlimit(resource.RLIMIT_AS)
    if address_space != resource.RLIM_INFINITY:
        limits.append((address_space, "RLIMIT_AS"))
    return min(limits)


def _group_limits(root: Path) -> Iterator[tuple[int, str]]:
    """Yield the limits of the process's control group, version 1 or 2, and of those around it.

    In a container, the group's path may be that of the host, and the limits lie at the top.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        top, name = ("memory", "memory.limit_in_bytes") if controllers else ("", "memory.max")
        group = PurePath(path.strip("/"))
        for folder in (group, *group.parents):
            file = root / "sys/fs/cgroup" / top / folder / name
            try:
                text = file.read_text().strip()
            except OSError:
                continue
            if text.isdecimal():  # else it is "max"
                yield int(text), str(file)
