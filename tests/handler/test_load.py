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
    while len(load._line) < count:
        time.sleep(0.001)


def test_turns_come_in_the_order_of_asking():
    load, order = Load(1, 1, WAIT_S), []

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
    load, inside, most = Load(3, 1, WAIT_S), [], []

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
    load = Load(1, 1, SHORT_S)
    with load.turn(), pytest.raises(Busy, match=r"within 0.05 s, got too many") as refused, load.turn():
        raise AssertionError("there is no second place")
    assert (refused.value.status, refused.value.retry_after_s) == (503, 5)
    with load.turn():
        pass


def test_an_error_gives_the_place_back():
    load = Load(1, 1, SHORT_S)
    with pytest.raises(ValueError, match="work"), load.turn():
        raise ValueError("work")
    with load.turn():
        pass


def test_a_body_waits_until_another_one_is_gone():
    load, second = Load(1, 100, WAIT_S), threading.Event()

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
    load = Load(1, 100, SHORT_S)
    with load.body() as first:
        first(60)
        with pytest.raises(Busy, match="at most 100 bytes, got more"), load.body() as second:
            second(60)
        with load.body() as third:
            third(40)
