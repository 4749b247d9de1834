"""How requests wait for their turn, and bodies for memory."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from handler.errors import Busy
from handler.web.load import Load

WAIT_S = 30.0
SHORT_S = 0.05


def waiting(load, count):
    """Return once so many threads wait for their turn."""
    while len(load._beginners) < count:
        time.sleep(0.001)


def test_turns_come_in_the_order_of_asking():
    load, order = Load(1, 1, 1, WAIT_S), []

    def work(number):
        with load.turn():
            order.append(number)

    with ThreadPoolExecutor(10) as pool:
        with load.turn():
            for number in range(10):
                pool.submit(work, number)
                waiting(load, number + 1)
        pool.shutdown()
    assert order == list(range(10))


def test_no_more_work_at_once_than_there_are_places():
    load, inside, most = Load(3, 3, 1, WAIT_S), [], []

    def work(number):
        with load.turn():
            inside.append(number)
            most.append(len(inside))
            time.sleep(0.001)
            inside.remove(number)

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(work, range(60)))
    assert (max(most), len(most)) == (3, 60)


def test_a_turn_that_does_not_come_is_refused_and_costs_no_place():
    load = Load(1, 1, 1, SHORT_S)
    with load.turn(), pytest.raises(Busy, match=r"within 0.05 s, got too many") as refused, load.turn():
        raise AssertionError("there is no second place")
    assert (refused.value.status, refused.value.retry_after_s) == (503, 5)
    with load.turn():
        pass


class Image:
    """An image in a thread of its own: away as soon as it has its turn, until it is called back; then it works on."""

    def __init__(self, load, pool):
        self.begun, self.back = threading.Event(), threading.Event()
        self._call_back, self._end = threading.Event(), threading.Event()
        pool.submit(self._work, load)

    def _work(self, load):
        with load.turn():
            self.begun.set()
            with load.away(), load.away():  # within the first, the second changes nothing
                self._call_back.wait(WAIT_S)
            self.back.set()
            self._end.wait(WAIT_S)

    def call_back(self):
        self._call_back.set()

    def end(self):
        self._call_back.set()
        self._end.set()


def one_back_of_two(load, pool):
    """Return two images that were away at once, of which the first is back."""
    first, second = Image(load, pool), Image(load, pool)
    assert second.begun.wait(WAIT_S)
    first.call_back()
    assert first.back.wait(WAIT_S)
    return first, second


def test_others_begin_while_images_are_away_as_long_as_there_are_places():
    load = Load(3, 1, 1, WAIT_S)
    with ThreadPoolExecutor(4) as pool:
        images = [Image(load, pool) for _ in range(3)]
        assert all(image.begun.wait(WAIT_S) for image in images)
        late = Image(load, pool)
        assert not late.begun.wait(SHORT_S)
        images[0].end()
        assert late.begun.wait(WAIT_S)
        for image in [*images, late]:
            image.end()
    assert (load._places, load._processors) == (3, 1)


def test_who_comes_back_works_before_those_that_begin():
    load = Load(3, 1, 1, WAIT_S)
    with ThreadPoolExecutor(4) as pool:
        first, second = one_back_of_two(load, pool)
        beginner = Image(load, pool)
        waiting(load, 1)
        second.call_back()
        assert not second.back.wait(SHORT_S)
        assert not beginner.begun.is_set()
        first.end()
        assert second.back.wait(WAIT_S)
        assert not beginner.begun.wait(SHORT_S)
        second.end()
        assert beginner.begun.wait(WAIT_S)
        beginner.end()
    assert (load._places, load._processors) == (3, 1)


def test_who_comes_back_to_no_processor_works_without(monkeypatch):
    monkeypatch.setattr("handler.web.load.RETURN_S", SHORT_S)
    load = Load(2, 1, 1, WAIT_S)
    with ThreadPoolExecutor(2) as pool:
        first, second = one_back_of_two(load, pool)
        second.call_back()
        assert second.back.wait(WAIT_S)
        first.end()
        second.end()
    assert (load._places, load._processors) == (2, 1)


def test_who_has_no_turn_is_never_away():
    load = Load(1, 1, 1, WAIT_S)
    with load.away(), load.turn():
        assert (load._places, load._processors) == (0, 0)
    assert (load._places, load._processors) == (1, 1)


def test_an_error_gives_the_place_back():
    load = Load(1, 1, 1, SHORT_S)
    with pytest.raises(ValueError, match="work"), load.turn():
        raise ValueError("work")
    with load.turn():
        pass


def test_a_body_waits_until_another_one_is_gone():
    load, second = Load(1, 1, 100, WAIT_S), threading.Event()

    def read():
        with load.body() as keep:
            keep(60)
            second.set()

    with ThreadPoolExecutor(1) as pool:
        with load.body() as keep:
            keep(60)
            reader = pool.submit(read)
            assert not second.wait(SHORT_S)
            keep(1000)  # the oldest goes on in any case
        assert second.wait(WAIT_S)
        reader.result()


def test_a_body_without_room_is_refused_and_keeps_none():
    load = Load(1, 1, 100, SHORT_S)
    with load.body() as first:
        first(60)
        with pytest.raises(Busy, match="at most 100 bytes, got more"), load.body() as second:
            second(60)
        with load.body() as third:
            third(40)
