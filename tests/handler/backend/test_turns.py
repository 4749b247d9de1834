"""Turns of calls: order, limit, pauses, and calls that come too late; then before a server that refuses."""

import itertools
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from handler.backend.turns import FIRST_PAUSE_S, MAX_PAUSE_S, Turns, pause_s
from handler.errors import ModelTimeout, ModelUnavailable
from tests.support.backend import Backend, serve
from tests.support.client import connect, predict
from tests.support.processes import free_port
from tests.support.waiting import soon_s, wait_for


def test_pauses_double_vary_and_have_a_bound():
    for repeats in range(1, 2000):
        middle_s = min(FIRST_PAUSE_S * 2 ** min(repeats - 1, 40), MAX_PAUSE_S)
        assert 0.5 * middle_s <= pause_s(repeats) <= 1.5 * middle_s
    assert len({pause_s(1) for _ in range(10)}) > 1


@pytest.mark.parametrize("limit", [1, 3])
def test_no_more_than_the_limit_run_and_the_first_come_is_the_first_served(limit):
    turns, order = Turns(limit), []
    for _ in range(limit):
        assert turns.begin(turns.ticket(), soon_s())

    def call(ticket):
        assert turns.begin(ticket, soon_s())
        order.append(ticket)

    tickets = [turns.ticket() for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        for ticket in reversed(tickets):
            pool.submit(call, ticket)
        wait_for(lambda: len(turns._waiting) == 8)
        for count in range(1, 9):
            turns.end(0.0)
            wait_for(lambda count=count: len(order) == count)
    assert order == tickets


def test_without_a_limit_all_run():
    turns = Turns()
    assert all(turns.begin(turns.ticket(), soon_s()) for _ in range(100))


def test_a_refused_call_stays_ahead_of_later_ones():
    turns, order = Turns(2), []
    first, other, later = turns.ticket(), turns.ticket(), turns.ticket()
    assert turns.begin(first, soon_s())
    assert turns.begin(other, soon_s())
    turns.end(refused=True)  # the first one
    assert turns.begin(turns.ticket(), soon_s())  # after a pause; now both places are taken

    def call(ticket):
        assert turns.begin(ticket, soon_s())
        order.append(ticket)

    with ThreadPoolExecutor(2) as pool:
        for count, ticket in enumerate((later, first), start=1):
            pool.submit(call, ticket)
            wait_for(lambda count=count: len(turns._waiting) == count)
        turns.end(0.0)
        turns.end(0.0)
    assert order == [first, later]


def test_while_the_server_is_busy_pauses_grow_until_a_call_is_answered():
    turns, begun_s = Turns(), []
    ticket = turns.ticket()
    for _ in range(5):
        assert turns.begin(ticket, soon_s())
        begun_s.append(time.monotonic())
        turns.end(refused=True)
    pauses_s = [after - before for before, after in itertools.pairwise(begun_s)]
    for repeats, seconds in enumerate(pauses_s):
        assert seconds >= 0.5 * FIRST_PAUSE_S * 2**repeats
    assert turns.begin(ticket, soon_s())
    turns.end(0.01)
    start_s = time.monotonic()
    assert turns.begin(turns.ticket(), soon_s())
    assert time.monotonic() - start_s < pauses_s[-1]


def test_who_cannot_make_the_deadline_does_not_begin():
    turns = Turns(1)
    assert turns.begin(turns.ticket(), soon_s())
    turns.end(5.0)
    assert turns.begin(turns.ticket(), soon_s(1.0))  # has not waited, so it may try: the server may be faster now
    start_s = time.monotonic()
    assert not turns.begin(turns.ticket(), soon_s(4.9))
    assert time.monotonic() - start_s < 4.9


def test_who_gets_no_turn_is_unavailable():
    backend = Backend()
    backend.takes_s = 0.4
    with serve(backend) as address:
        client = connect(address, 0.6, concurrency=1)
        client.served()
        with ThreadPoolExecutor(4) as pool:
            errors = [future.exception() for future in [pool.submit(predict, client) for _ in range(4)]]
        client.close()
    assert errors.count(None) == 1
    assert {type(error) for error in errors} <= {type(None), ModelUnavailable, ModelTimeout}
    assert backend.calls.count("serving_default") < 4


@pytest.mark.parametrize("concurrency", [None, 3])
def test_a_busy_server_fails_no_request_and_forgets_none(concurrency):
    backend, took_s = Backend(), []
    backend.takes_s = 0.02
    with serve(backend, places=3) as address:
        client = connect(address, 10.0, concurrency)
        client.served()

        def ask(_):
            start_s = time.monotonic()
            answer = predict(client)[1]
            took_s.append(time.monotonic() - start_s)
            return answer.repeats

        start_s = time.monotonic()
        with ThreadPoolExecutor(16) as pool:
            repeats = list(pool.map(ask, range(96)))
        all_s = time.monotonic() - start_s
        client.close()
    assert len(repeats) == 96
    assert sum(repeats) == backend.refused
    assert (backend.refused == 0) == (concurrency == 3)
    assert max(took_s) < all_s / 2  # six rounds of 16; with luck instead of turns, some wait through most of them


def test_a_server_that_is_started_again_fails_no_request():
    backend, port = Backend(), free_port()
    stop = threading.Event()
    answered = []

    def ask():
        while not stop.is_set():
            answered.append(predict(client)[1].repeats)

    client = connect(f"127.0.0.1:{port}", 20.0)
    backend.takes_s = 0.05
    with ThreadPoolExecutor(4) as pool:
        with serve(backend, port):
            clients = [pool.submit(ask) for _ in range(4)]
            wait_for(lambda: len(answered) > 8)
        time.sleep(0.5)
        with serve(backend, port):
            before = len(answered)
            wait_for(lambda: len(answered) > before + 8 or any(one.done() for one in clients))
            stop.set()
            for one in clients:
                one.result()
    client.close()
    assert max(answered) > 0
