"""Connections that die in silence: a relay swallows what they carry, and serves new ones."""

import time
from contextlib import ExitStack

import pytest

from handler.backend.channel import ping_options
from handler.backend.client import READY_S
from handler.errors import ModelTimeout, ModelUnavailable
from tests.support.backend import Backend, serve
from tests.support.client import connect, predict
from tests.support.counts import pick
from tests.support.relay import relay

DEADLINE_S = pick(daily=4.0, campaign=6.0)
TRIALS = pick(daily=1, campaign=20)
SERVER_PINGS = 3  # that gRPC's servers allow by default without sending a byte; within five minutes
SLACK_S = 1.0  # of a loaded machine


@pytest.fixture
def backends():
    return [Backend(), Backend()]


@pytest.fixture
def relays(backends):
    """Two replicas, each behind a relay."""
    with ExitStack() as stack:
        yield [stack.enter_context(relay(stack.enter_context(serve(one)))) for one in backends]


def opened(relays, backends, deadline_s=DEADLINE_S):
    """Return a client to whose requests every replica has just answered."""
    client = connect("ipv4:" + ",".join(one.address for one in relays), deadline_s)
    asked = backends[: len(relays)]
    for one in asked:
        one.calls.clear()
    end_s = time.monotonic() + deadline_s
    while not all("serving_default" in one.calls for one in asked):
        assert time.monotonic() < end_s
        predict(client)
    return client


def timed(client):
    """Return the seconds that an answered request takes."""
    start_s = time.monotonic()
    assert predict(client)[1].version == 1
    return time.monotonic() - start_s


@pytest.mark.counted
@pytest.mark.parametrize("replicas", [1, 2])
def test_a_silent_connection_costs_one_slow_request_and_fails_none(relays, backends, replicas):
    for _ in range(TRIALS):
        client = opened(relays[:replicas], backends)
        relays[0].silence()
        took_s = [timed(client) for _ in range(6)]
        client.close()
        assert max(took_s) < DEADLINE_S
        assert sum(seconds > 0.5 for seconds in took_s) == 1, took_s


@pytest.mark.parametrize("replicas", [1, 2])
def test_where_pings_come_too_late_the_deadline_ends_the_connection(relays, backends, replicas):
    client = opened(relays[:replicas], backends, deadline_s=1.0)
    relays[0].silence()
    failed = 0
    for _ in range(6):
        try:
            predict(client)
        except (ModelTimeout, ModelUnavailable):  # the ping may end the connection just before the deadline
            failed += 1
    client.close()
    assert failed == 1


def test_ready_recovers(relays, backends):
    client = opened(relays[:1], backends, deadline_s=20.0)
    relays[0].silence()
    start_s = time.monotonic()
    assert client.ready() == client.ready() == 1
    assert time.monotonic() - start_s < READY_S / 2 + SLACK_S
    client.close()


def test_a_slow_model_is_not_taken_for_dead(relays, backends):
    client = opened(relays[:1], backends)
    backends[0].takes_s = 0.75 * DEADLINE_S
    _, answer = predict(client)
    client.close()
    assert answer.repeats == 0
    assert relays[0].accepted == 1


@pytest.mark.parametrize("deadline_s", [1.0, 6.0, 20.0, 60.0, 900.0, 3600.0])
def test_servers_allow_the_pings_of_a_whole_deadline(deadline_s):
    options = dict(ping_options(deadline_s))
    assert "grpc.http2.max_pings_without_data" not in options
    assert "grpc.keepalive_permit_without_calls" not in options
    after_s = options["grpc.keepalive_time_ms"] / 1000
    assert deadline_s / after_s <= SERVER_PINGS + 0.01 or after_s > 300
    assert options["grpc.http2.ping_timeout_ms"] == options["grpc.keepalive_timeout_ms"]
    silent_s = after_s + options["grpc.http2.ping_timeout_ms"] / 1000
    assert silent_s <= deadline_s / 2 + 0.01 or deadline_s < 6
