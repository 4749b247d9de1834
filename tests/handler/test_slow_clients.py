"""Clients that send slowly, read nothing or keep silent, and a process that ends: over sockets, under gunicorn."""

import json
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.support.backend import Backend, serve
from tests.support.function import running
from tests.support.images import noise
from tests.support.processes import HOST

THREADS = 4
CLIENTS = 4 * THREADS
TIMEOUT_S = 1.0
HEALTH_S = 1.0
STEP_S = 0.2
LATE_S = 3.0  # for a machine that others use
IMAGE = noise()
POST = b"POST / HTTP/1.1\r\nHost: function\r\n"
BODY = POST + b"Content-Length: 100000\r\n\r\n"
CHUNKS = POST + b"Transfer-Encoding: chunked\r\n\r\n186A0\r\n"
GET = b"GET /openapi.json HTTP/1.1\r\nHost: function\r\n\r\n"
SLOW = {"body": BODY, "chunks": CHUNKS, "headers": POST, "nothing": b""}
WHOLE = POST + b"Content-Length: %d\r\n\r\n" % len(IMAGE) + IMAGE


@pytest.fixture(scope="module")
def backend():
    return Backend()


@pytest.fixture(scope="module")
def function(backend, tmp_path_factory):
    folder = tmp_path_factory.mktemp("slow")
    settings = {"THREADS": str(THREADS), "CLIENT_TIMEOUT_S": str(TIMEOUT_S)}
    with serve(backend) as address, running(folder, TF_SERVING_ADDRESS=address, **settings) as one:
        yield one


def connect(function, sent=b""):
    """Return a connection that has sent something."""
    client = socket.create_connection((HOST, function.port), timeout=30)
    client.sendall(sent)
    return client


def received(client):
    """Return all that comes until the connection ends."""
    parts = []
    try:
        while part := client.recv(1 << 16):
            parts.append(part)
    except ConnectionResetError:
        parts.append(b"")
    return b"".join(parts)


@contextmanager
def trickling(clients):
    """Let each client send a byte every STEP_S as long as its connection lasts."""
    done = threading.Event()

    def send():
        going = list(clients)
        while not done.wait(STEP_S):
            for client in list(going):
                try:
                    client.sendall(b"x")
                except OSError:
                    going.remove(client)

    sender = threading.Thread(target=send)
    sender.start()
    try:
        yield
    finally:
        done.set()
        sender.join()


def health_s(function):
    """Return the seconds that /health takes."""
    start_s = time.monotonic()
    assert function.get("/health").status == 200
    return time.monotonic() - start_s


@pytest.mark.parametrize("kind", ["body", pytest.param("chunks", marks=pytest.mark.campaign), "headers"])
def test_a_byte_now_and_then_is_a_408_after_the_time_of_all_of_them(function, kind):
    with connect(function, SLOW[kind]) as client, trickling([client]):
        start_s = time.monotonic()
        head, _, body = received(client).partition(b"\r\n\r\n")
        took_s = time.monotonic() - start_s
    assert head.startswith(b"HTTP/1.1 408 ")
    assert b"\r\nConnection: close" in head
    assert b"\r\nContent-Type: application/problem+json" in head
    problem = json.loads(body)
    assert (problem["status"], problem["title"]) == (408, "Request timeout")
    assert "must arrive within 1 s, got a part" in problem["detail"]
    assert problem["request_id"].encode() in head
    assert TIMEOUT_S * 0.9 < took_s < TIMEOUT_S + LATE_S
    assert [line["status"] for line in function.log_lines() if line.get("request_id") == problem["request_id"]] == [408]


def test_a_request_in_two_halves_within_the_time_is_answered(function):
    with connect(function, WHOLE[: len(WHOLE) // 2]) as client:
        time.sleep(TIMEOUT_S / 2)
        client.sendall(WHOLE[len(WHOLE) // 2 :])
        assert client.recv(1 << 16).startswith(b"HTTP/1.1 200 ")


def test_clients_that_do_not_read_their_answer_are_disconnected_and_logged(function):
    start_s = time.monotonic()
    with connect(function) as client, pytest.raises(ConnectionError):
        while True:
            client.sendall(GET)  # at some time the kernel keeps no more for both sides
    assert TIMEOUT_S < time.monotonic() - start_s < TIMEOUT_S + LATE_S
    (line,) = [line for line in function.log_lines() if "must read its answer" in line["message"]]
    assert line["severity"] == "WARNING"
    assert line["message"].startswith("GET /openapi.json: the client must read its answer within 1 s")


@pytest.mark.parametrize("kind", SLOW)
def test_slow_clients_stop_neither_health_nor_others(function, kind):
    with ExitStack() as stack:
        clients = [stack.enter_context(connect(function, SLOW[kind])) for _ in range(CLIENTS)]
        with trickling(clients if SLOW[kind] else []):
            time.sleep(STEP_S)
            assert health_s(function) < HEALTH_S
            assert function.post(IMAGE).status == 200


def test_answered_clients_that_do_not_close_stop_nothing(function):
    closing = POST.replace(b"POST /", b"GET /health") + b"Connection: close\r\n\r\n"
    with ExitStack() as stack:
        for _ in range(CLIENTS):
            assert stack.enter_context(connect(function, closing)).recv(1 << 16).startswith(b"HTTP/1.1 200 ")
        assert health_s(function) < HEALTH_S


def test_connections_that_clients_close_are_closed_here(function):
    process_id = function.program.process.pid
    (worker,) = Path(f"/proc/{process_id}/task/{process_id}/children").read_text().split()
    files = Path(f"/proc/{worker}/fd")
    before = len(list(files.iterdir()))
    for _ in range(20):
        with connect(function, GET.replace(b"openapi.json", b"health")) as client:
            assert client.recv(1 << 16).startswith(b"HTTP/1.1 200 ")
    end_s = time.monotonic() + LATE_S
    while len(list(files.iterdir())) > before:
        assert time.monotonic() < end_s
        time.sleep(0.01)


def test_health_answers_beside_requests_that_wait_for_a_stalled_model(function, backend):
    assert function.post(IMAGE).status == 200
    stalled = threading.Event()
    backend.see = lambda image: stalled.wait(30) and backend.outputs
    backend.calls.clear()
    with ThreadPoolExecutor(CLIENTS) as pool:
        clients = [pool.submit(function.post, IMAGE) for _ in range(CLIENTS)]
        try:
            while len(backend.calls) < THREADS:
                time.sleep(0.01)
            assert max(health_s(function) for _ in range(5)) < HEALTH_S
            assert len(backend.calls) == THREADS
            assert not any(client.done() for client in clients)
        finally:
            stalled.set()
            backend.see = None
        assert [client.result().status for client in clients] == [200] * CLIENTS


@pytest.fixture
def ending(tmp_path, request):
    """Yield a backend and a function of some workers that answer one request after the other."""
    backend = Backend()
    settings = {"WORKERS": str(request.param), "THREADS": "1", "KEEP_ALIVE_S": "1"}
    with serve(backend) as address, running(tmp_path, TF_SERVING_ADDRESS=address, **settings) as function:
        yield backend, function


one_worker = pytest.mark.parametrize("ending", [1], indirect=True)


@pytest.mark.parametrize("ending", [1, pytest.param(3, marks=pytest.mark.campaign)], indirect=True)
def test_a_process_that_ends_answers_what_it_has_and_refuses_the_rest_at_once(ending):
    backend, function = ending
    backend.takes_s = 0.8
    with connect(function, WHOLE) as first, connect(function, WHOLE) as second:
        while "serving_default" not in backend.calls:
            time.sleep(0.01)
        function.program.process.send_signal(signal.SIGTERM)
        end_s = time.monotonic() + LATE_S
        while reachable(function):
            assert time.monotonic() < end_s
        for client in (first, second):
            assert received(client).startswith(b"HTTP/1.1 200 ")
    function.program.process.wait(5)


def reachable(function):
    """Return True if something listens."""
    with socket.socket() as probe:
        return probe.connect_ex((HOST, function.port)) == 0


@pytest.mark.campaign
@one_worker
def test_a_process_that_ends_waits_for_no_connection_that_is_silent(ending):
    _, function = ending
    with connect(function) as silent:
        time.sleep(6)  # gunicorn waits 5 s before it stops to hold a thread for it
        function.program.process.send_signal(signal.SIGTERM)
        assert received(silent) == b""
        function.program.process.wait(5)


@one_worker
def test_a_connection_is_closed_after_the_time_of_the_settings(ending):
    _, function = ending
    with connect(function, GET) as client:
        start_s = time.monotonic()
        assert received(client).startswith(b"HTTP/1.1 200 ")
    assert 0.9 < time.monotonic() - start_s < 2 + LATE_S  # gunicorn looks once a second


def test_connections_stay_open_for_load_balancers(function):
    with connect(function, GET) as client:
        client.settimeout(3)
        with pytest.raises(TimeoutError):  # CLIENT_TIMEOUT_S passes, and gunicorn's own two seconds
            received(client)
        client.sendall(GET)
        assert client.recv(1 << 16).startswith(b"HTTP/1.1 200 ")


def test_a_first_line_without_an_end_is_refused(function):
    with connect(function, b"GET /" + b"x" * 20_000) as client:
        assert received(client).startswith(b"HTTP/1.1 414 ")
