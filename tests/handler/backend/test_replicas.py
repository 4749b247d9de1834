"""Three stand-ins behind one name, as behind a headless service: one dies in the middle of the work, and comes back.

Each is a process of its own with TensorFlow's runtime; the name is asked of a real DNS server.
"""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from dnslib import QTYPE, RR, A
from dnslib.server import BaseResolver, DNSServer

from tests.support.function import running
from tests.support.images import noise
from tests.support.processes import StandIn, free_port

NAME = "tf-serving.segment.internal"
HOSTS = ("127.0.0.2", "127.0.0.3", "127.0.0.4")
CLIENTS = 20
PAUSE_S = 3.0  # of work in each of the three states
TOGETHER_S = 60


class Records(BaseResolver):
    """Answers every address of the one name there is."""

    def resolve(self, request, handler):
        reply = request.reply()
        if str(request.q.qname).rstrip(".") == NAME and request.q.qtype == QTYPE.A:
            for host in HOSTS:
                reply.add_answer(RR(request.q.qname, QTYPE.A, rdata=A(host), ttl=1))
        return reply


@contextmanager
def name_server():
    """Yield host:port of a DNS server."""
    server = DNSServer(Records(), address="127.0.0.1", port=0)
    server.start_thread()
    try:
        yield f"127.0.0.1:{server.server.server_address[1]}"
    finally:
        server.stop()
        server.server.server_close()


@pytest.fixture
def replicas(base_path, tmp_path):
    port = free_port(HOSTS[0])
    flags = "--model_name=shapes", f"--model_base_path={base_path}"
    replicas = [StandIn(*flags, log=tmp_path / f"{host}.log", host=host, port=port) for host in HOSTS]
    try:
        for replica in replicas:
            replica.start()
        for replica in replicas:
            replica.wait()
        yield replicas
    finally:
        for replica in replicas:
            replica.kill()


class Clients:
    """Clients that ask one request after the other until they are stopped; ``statuses`` counts the answers."""

    def __init__(self, function):
        self._function = function
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(CLIENTS)
        self.statuses = []

    def __enter__(self):
        self._futures = [self._pool.submit(self._ask) for _ in range(CLIENTS)]
        return self

    def __exit__(self, *error):
        self._stop.set()
        for future in self._futures:
            future.result()
        self._pool.shutdown()

    def _ask(self):
        image = noise()
        while not self._stop.is_set():
            answer = self._function.post(image)
            good = answer.status == 200 and answer.json()["instances"][0]["area"] == 512
            self.statuses.append(200 if good else answer)


def work(replicas):
    """Return the seconds of processor time that each replica spends in a while of the clients' work."""
    before = [replica.cpu_s() for replica in replicas]
    time.sleep(PAUSE_S)
    return [replica.cpu_s() - start for replica, start in zip(replicas, before, strict=True)]


@pytest.mark.campaign
def test_a_replica_that_is_killed_costs_no_request_and_takes_part_again(replicas, tmp_path):
    port = replicas[0].port
    with (
        name_server() as dns,
        running(tmp_path, TF_SERVING_ADDRESS=f"dns://{dns}/{NAME}:{port}", MODEL_NAME="shapes") as function,
        Clients(function) as clients,
    ):
        assert min(work(replicas)) > 0.1  # all three work

        replicas[1].kill()
        spent = work([replicas[0], replicas[2]])
        assert min(spent) > 0.1

        replicas[1].start()
        replicas[1].wait()
        end_s = time.monotonic() + TOGETHER_S
        while min(work(replicas)) <= 0.1:
            assert time.monotonic() < end_s, "the replica that came back must take requests"
    failed = [answer for answer in clients.statuses if answer != 200]
    assert (len(failed), failed[:3]) == (0, [])
    assert len(clients.statuses) > 100
    assert {line["status"] for line in function.log_lines() if "status" in line} == {200}
    assert Path(replicas[1].log).read_text().count("serving shapes") == 2
