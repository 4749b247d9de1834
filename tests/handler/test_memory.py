"""Memory for decoding: how much there is, and the line of those that wait for it."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext

import pytest

from handler.errors import Busy, TooLarge
from handler.memory import LARGE_BYTES, MAX_PASSES, Memory, default_bytes
from handler.web.load import Load
from tests.support.waiting import FAR_S, soon_s, wait_for


class Line:
    """Requests in threads of their own: each holds its bytes until it is told to end."""

    def __init__(self, budget, away=nullcontext):
        self.memory = Memory(budget, away)
        self.begun, self._ends, self._pool = [], {}, ThreadPoolExecutor(64)

    def ask(self, name, cost):
        """Let one more ask; return once it holds its bytes, or waits in line."""
        waiting, begun = len(self.memory._line), len(self.begun)
        self.start(name, cost)
        wait_for(lambda: len(self.memory._line) + len(self.begun) > waiting + begun)

    def start(self, name, cost):
        self._ends[name] = threading.Event()
        self._pool.submit(self._hold, name, cost)

    def _hold(self, name, cost):
        with self.memory.room(soon_s()) as reserve:
            reserve(cost)
            self.begun.append(name)
            self._ends[name].wait(FAR_S)

    def end(self, name, count):
        """End one that holds bytes; return once ``count`` have begun in all."""
        self._ends[name].set()
        wait_for(lambda: len(self.begun) >= count)

    def close(self):
        for end in self._ends.values():
            end.set()
        self._pool.shutdown()
        assert self.memory._free_bytes == self.memory.budget_bytes
        assert self.memory._line == []


@pytest.fixture
def line():
    one = Line(10)
    yield one
    one.close()


def test_the_first_come_is_the_first_served(line):
    for name, cost in (("a", 6), ("b", 6), ("c", 6), ("d", 6)):
        line.ask(name, cost)
    assert line.begun == ["a"]
    for count, name in enumerate("abc", start=2):
        line.end(name, count)
    assert line.begun == ["a", "b", "c", "d"]


def test_small_ones_pass_large_ones(line):
    for name, cost in (("a", 6), ("large", 10), ("small", 4)):
        line.ask(name, cost)
    assert line.begun == ["a", "small"]
    line.end("a", 2)
    line.end("small", 3)
    assert line.begun[-1] == "large"


def test_a_large_one_is_passed_so_often_and_no_more(line):
    line.ask("a", 6)
    line.ask("large", 10)
    for number in range(MAX_PASSES):
        line.ask(number, 4)
        line.end(number, number + 2)
        wait_for(lambda: line.memory._free_bytes == 4)
    line.ask("late", 1)
    assert line.begun[-1] == MAX_PASSES - 1
    line.end("a", MAX_PASSES + 2)
    assert line.begun[-1] == "large"
    line.end("large", MAX_PASSES + 3)
    assert line.begun[-1] == "late"


def test_a_large_one_among_many_small_ones_is_served():
    shared, served = Memory(8), threading.Event()

    def keep_asking():
        while not served.is_set():
            with shared.room(soon_s()) as reserve:
                reserve(2)
                time.sleep(0.0005)

    with ThreadPoolExecutor(8) as pool:
        for _ in range(8):
            pool.submit(keep_asking)
        try:
            for _ in range(5):
                start_s = time.monotonic()
                with shared.room(soon_s()) as reserve:
                    reserve(8)
                assert time.monotonic() - start_s < 10
        finally:
            served.set()


def test_who_gets_no_turn_in_time_is_told_so(line):
    line.ask("a", 6)
    start_s = time.monotonic()
    late = pytest.raises(Busy, match="must find 5 bytes of memory to decode, got 4 beside")
    with late as raised, line.memory.room(soon_s(0.1)) as reserve:
        reserve(5)
    assert 0.1 <= time.monotonic() - start_s < 5
    assert (raised.value.status, raised.value.retry_after_s) == (503, 5)


def test_who_gives_up_holds_nobody_up(line):
    line.ask("a", 6)
    with ThreadPoolExecutor(1) as pool:

        def give_up():
            with pytest.raises(Busy), line.memory.room(soon_s(0.2)) as reserve:
                reserve(10)

        first = pool.submit(give_up)
        wait_for(lambda: len(line.memory._line) == 1)
        line.memory._line[0].passed = MAX_PASSES
        line.ask("b", 4)
        first.result()
    wait_for(lambda: line.begun == ["a", "b"])


def test_what_never_fits_is_too_large_at_once(line):
    line.ask("a", 6)
    too_large = pytest.raises(TooLarge, match="at most 10 bytes of memory to decode, got one of 11")
    with too_large, line.memory.room(soon_s()) as reserve:
        reserve(11)


def test_who_asks_for_more_gives_back_what_it_has():
    shared = Memory(10)
    with shared.room(soon_s()) as reserve:
        reserve(4)
        reserve(3)
        assert shared._free_bytes == 6
        reserve(10)  # with the four it would never come
        assert shared._free_bytes == 0
    assert shared._free_bytes == 10


def test_an_error_gives_everything_back():
    shared = Memory(10)
    with pytest.raises(KeyError), shared.room(soon_s()) as reserve:
        reserve(4)
        raise KeyError
    assert shared._free_bytes == 10


def test_who_waits_in_vain_keeps_nothing_of_what_it_had():
    shared = Memory(10)
    with shared.room(soon_s()) as other, shared.room(soon_s(0.1)) as reserve:
        other(4)
        reserve(5)
        with pytest.raises(Busy):
            reserve(7)
        assert shared._free_bytes == 6
        reserve(6)
        assert shared._free_bytes == 0
    assert shared._free_bytes == 10


class Aside:
    """Counts the images that are away, and how often one went."""

    def __init__(self):
        self.now = self.times = 0

    @contextmanager
    def __call__(self):
        self.now += 1
        self.times += 1
        yield
        self.now -= 1


def test_an_image_is_away_while_it_waits_for_memory_and_not_without_waiting():
    away = Aside()
    line = Line(10, away)
    line.ask("a", 6)
    assert away.times == 0
    line.ask("b", 6)
    assert away.now == 1
    line.end("a", 2)
    assert (away.now, away.times) == (0, 1)
    line.close()


def test_who_comes_back_with_memory_to_no_processor_holds_nobody_up(monkeypatch):
    monkeypatch.setattr("handler.web.load.RETURN_S", FAR_S)
    load = Load(3, 2, 1, FAR_S)
    shared = Memory(10, load.away)
    back, third_begun, over = [], threading.Event(), threading.Event()

    def first():
        with load.turn():
            with shared.room(soon_s()) as reserve:
                reserve(6)
                assert third_begun.wait(FAR_S)
            assert over.wait(FAR_S)

    def second():
        with load.turn(), shared.room(soon_s()) as reserve:
            wait_for(lambda: shared._free_bytes == 4)
            reserve(6)
            back.append("b")

    def third():
        wait_for(lambda: shared._line)
        with load.turn(), shared.room(soon_s()) as reserve:
            third_begun.set()
            wait_for(lambda: load._returners)  # the second has its memory, and no processor
            reserve(3)
            back.append("c")
        over.set()

    with ThreadPoolExecutor(3) as pool:
        for done in [pool.submit(work) for work in (first, second, third)]:
            done.result(FAR_S)
    assert back == ["c", "b"]


def test_a_large_image_is_away_until_it_is_decoded():
    away = Aside()
    shared = Memory(2 * LARGE_BYTES, away)
    with shared.room(soon_s()) as reserve:
        reserve(LARGE_BYTES)
        assert away.now == 0
        reserve(LARGE_BYTES + 1)
        assert away.now == 1
        reserve(LARGE_BYTES + 2)
        assert away.now == 1
    assert away.now == 0


def test_the_default_is_a_workers_share_less_what_it_needs():
    assert default_bytes(10**9, 1, 16) == 10**9 - 100_000_000 - 16 * 8_000_000
    assert default_bytes(10**9, 2, 16) == 5 * 10**8 - 100_000_000 - 16 * 8_000_000
    assert default_bytes(10**8, 1, 16) == 10**8 // 4
