"""The scenarios, in the order of the table: each injects its fault until the row's time is over."""

import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from tests.faults import bombs, clients, lies
from tests.faults.row import Scenario
from tests.faults.stage import INT8, KINDS, Photos, Replica, address, alone
from tests.support.backend import serve
from tests.support.client import connect
from tests.support.images import noise
from tests.support.relay import relay

CALM_S = 2.0  # of ordinary answers between two faults
UP_S = 8.0  # of a replica between two ends: the function finds it again within four seconds on an idle machine
LOAD_S = 60.0  # a version takes at most, on a machine that others use
BUSY_CLIENTS, BUSY_FLAG = 16, "--grpc_max_threads=8"
SLOW_CLIENTS = 16
BOMBS_AT_ONCE, BOMBS_BYTES, BOMBS_PEAK_BYTES = 16, 500_000_000, 1 << 30  # memory for decoding, and of a process
SOAK_CLIENTS, SOAK_WARM_S, SOAK_GROWTH = 4, 60.0, 1.05


def ended(count, end):
    """Return a scenario: one of ``count`` replicas is ended by ``end``, and started again."""

    def run(stage, row):
        replicas = stage.pair(count)
        with stage.asked(row, [address(one) for one in replicas]):
            for _ in row.rounds():
                time.sleep(UP_S)
                victim = row.rng.choice(replicas)
                end(victim)
                time.sleep(row.rng.uniform(0, 2))
                victim.ensure(INT8)
                victim.wait()

    return run


def stalled(count, shortest_s, longest_s):
    """Return a scenario: one of ``count`` replicas does nothing for a while, and its connections stay open."""

    def run(stage, row):
        replicas = stage.pair(count)
        with stage.asked(row, [address(one) for one in replicas]):
            for _ in row.rounds():
                time.sleep(CALM_S)
                group = row.rng.choice(replicas).process.pid
                os.killpg(group, signal.SIGSTOP)
                try:
                    time.sleep(row.rng.uniform(shortest_s, longest_s))
                finally:
                    os.killpg(group, signal.SIGCONT)

    return run


def silent(count):
    """Return a scenario: the connections to one of ``count`` replicas swallow what they carry; new ones work."""

    def run(stage, row):
        with ExitStack() as stack:
            relays = [stack.enter_context(relay(address(one))) for one in stage.pair(count)]
            stack.enter_context(stage.asked(row, [one.address for one in relays]))
            for _ in row.rounds():
                time.sleep(CALM_S)
                row.rng.choice(relays).silence()
                time.sleep(row.scenario.deadline_s)

    return run


def other_contract(stage, row):
    """Restart one replica after the other with another kind of export under the same version number."""
    replicas, kind = stage.pair(), "int8"
    photos = stage.photos(*KINDS)
    with stage.asked(row, [address(one) for one in replicas], photos):
        for _ in row.rounds():
            kind = row.rng.choice([one for one in KINDS if one != kind])
            for one in replicas:
                time.sleep(CALM_S)
                one.ensure({1: kind})
                one.wait()
        photos.last = {1: (kind,)}


def other_version(stage, row):
    """Let a version of another kind appear beside version 1, or vanish again, on one replica after the other."""
    replicas, photos = stage.pair(), stage.photos()
    photos.kinds = {1: ("int8",), 2: ("int8-cast",), 3: ("float32",)}
    with stage.asked(row, [address(one) for one in replicas], photos):
        for _ in row.rounds():
            version = row.rng.choice([one for one in (1, 2, 3) if one != max(replicas[0].offers)])
            for one in replicas:
                time.sleep(row.rng.uniform(0, CALM_S))
                one.offer({number: photos.kinds[number][0] for number in {1, version}})
                _await_version(one, version)
        photos.last = {version: photos.kinds[version]}


def _await_version(replica, version):
    """Return once the replica serves that version and no other."""
    client, end_s = connect(address(replica)), time.monotonic() + LOAD_S
    try:
        while client.ready() != version:
            if time.monotonic() > end_s:
                raise RuntimeError(f"version {version} must be served within {LOAD_S:.0f} s, see {replica.log}")
            time.sleep(0.1)
    finally:
        client.close()


def lying(stage, row):
    """Break the contract in one place of the answer after the other."""
    backend, bodies = lies.Liar(), {"noise": noise()}
    with serve(backend) as where:
        with stage.function(row, [where]) as function:
            photos = Photos(bodies, {"scripted": alone(function, bodies)}, {1: ("scripted",)})
        with stage.asked(row, [where], photos):
            for _ in row.rounds():
                for backend.lie in row.rng.sample(lies.LIES, len(lies.LIES)):
                    time.sleep(0.5)
                backend.lie = None
                time.sleep(CALM_S)


def slow_clients(stage, row):
    """Let half of the slow clients send each byte slowly, and half only the last ones."""
    over = threading.Event()
    with stage.asked(row, [address(one) for one in stage.pair()]) as function, ThreadPoolExecutor(SLOW_CLIENTS) as pool:
        photo = stage.photos().bodies["coins"]
        lasts = [len(photo), 5] * (SLOW_CLIENTS // 2)
        futures = [pool.submit(clients.slow, row, function, photo, last, over) for last in lasts]
        for _ in row.rounds():
            time.sleep(8)
        over.set()
        for future in futures:
            future.result()


def vanishing_clients(stage, row):
    with stage.asked(row, [address(one) for one in stage.pair()]) as function:
        photo = stage.photos().bodies["large"]
        for _ in row.rounds():
            clients.vanish(row, function, photo)
            time.sleep(row.rng.uniform(0, 2))  # the others' requests must find room: nobody knows that these are gone


def memory_bombs(stage, row):
    addresses, bodies = [address(one) for one in stage.pair()], bombs.bombs()
    with stage.function(row, addresses) as function:
        photos = Photos(bodies, {"int8": alone(function, bodies)}, {1: ("int8",)})
    with stage.asked(row, addresses, photos, BOMBS_AT_ONCE, DECODE_MEMORY_BYTES=str(BOMBS_BYTES)):
        for _ in row.rounds():
            time.sleep(CALM_S)


def busy_server(stage, row):
    """Send more requests at once than the model server takes calls."""
    server = stage.replica("busy", BUSY_FLAG)
    server.ensure(INT8)
    server.wait()
    with stage.asked(row, [address(server)], clients=BUSY_CLIENTS, WORKERS="2"):
        for _ in row.rounds():
            time.sleep(CALM_S)
    server.kill()


def soak(stage, row):
    """Send photographs for long; memory must stay, once the first minute has shown how much is needed."""
    with stage.asked(row, [address(one) for one in stage.pair()], clients=SOAK_CLIENTS) as function:
        time.sleep(min(SOAK_WARM_S, row.seconds / 2))
        warm_bytes = function.peak_bytes()
        function.forget_peak()
        for _ in row.rounds():
            time.sleep(CALM_S)
        growth = function.peak_bytes() / warm_bytes
        if growth > SOAK_GROWTH and row.seconds >= 2 * SOAK_WARM_S:
            row.other_faults.append(f"memory grew by {100 * (growth - 1):.0f} %")


EITHER = frozenset({200, 502})
BOUNDED = frozenset({200, 413, 503})
SCENARIOS = (
    Scenario("one of two killed", ended(2, Replica.kill)),
    Scenario("the only one killed", ended(1, Replica.kill), deadline_s=60),
    Scenario("the only one stopped", ended(1, Replica.stop), deadline_s=60),
    Scenario("one of two stalls", stalled(2, 13, 16), right="200, past the deadline of a stalled call", deadline_s=12),
    Scenario("the only one stalls", stalled(1, 2, 10)),
    Scenario("one of two silent", silent(2), deadline_s=12),
    Scenario("the only one silent", silent(1), deadline_s=12),
    Scenario("another contract", other_contract, deadline_s=60),
    Scenario("another version", other_version, deadline_s=60),
    Scenario("lying", lying, EITHER, "502 while it lies, 200 else"),
    Scenario("slow clients", slow_clients, right="200; the slow ones 200 or 408"),
    Scenario("vanishing clients", vanishing_clients, right="200 to those that stay"),
    Scenario(
        "memory bombs", memory_bombs, BOUNDED, "200, 413 or 503", deadline_s=60, late=True, peak_bytes=BOMBS_PEAK_BYTES
    ),
    Scenario("busy server", busy_server),
    Scenario("soak", soak, right="200; memory within 5 % after the first minute", share=4.0),
)
