"""The function with more clients than the model server takes, and with more slow requests than it can answer."""

import io
import logging
import statistics
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import skimage.data
from PIL import Image

from tests.support.backend import Backend, serve
from tests.support.function import running
from tests.support.images import noise
from tests.support.processes import StandIn
from tests.support.waiting import wait_for

logger = logging.getLogger(__name__)
CLIENTS = 16
BUSY_S = 60.0
DEADLINE_S = 20.0  # the default
HEALTH_S = 1.0


def coins():
    """Return a photograph in which the bundled model finds 24 objects, as PNG."""
    body = io.BytesIO()
    Image.fromarray(skimage.data.coins()).save(body, "PNG")
    return body.getvalue()


def ask_until(function, body, end_s):
    """Return the seconds of each answered request, one after the other. Raises AssertionError for any but 200."""
    took_s = []
    while time.monotonic() < end_s:
        start_s = time.monotonic()
        answer = function.post(body)
        assert answer.status == 200, answer.body
        took_s.append(time.monotonic() - start_s)
    return took_s


def busy(folder, base, grpc_threads, seconds, **settings):
    """Return the answers in a second, the longest time of one, and how often the function repeated its calls."""
    folder.mkdir()
    body = coins()
    flags = "--model_name=shapes", f"--model_base_path={base}", f"--grpc_max_threads={grpc_threads}"
    with (
        StandIn(*flags, log=folder / "stand-in.log") as server,
        running(folder, TF_SERVING_ADDRESS=f"{server.host}:{server.port}", **settings) as function,
        ThreadPoolExecutor(CLIENTS) as pool,
    ):
        ask_until(function, body, time.monotonic() + 2)
        end_s = time.monotonic() + seconds
        clients = [pool.submit(ask_until, function, body, end_s) for _ in range(CLIENTS)]
        took_s = [seconds for client in clients for seconds in client.result()]
        repeats = sum(line.get("model_repeats", 0) for line in function.log_lines())
    table = "%d threads, %s: %d answers in %.0f s, median %.2f s, longest %.2f s, %d repeats"
    logger.info(table, grpc_threads, settings, len(took_s), seconds, statistics.median(took_s), max(took_s), repeats)
    return len(took_s) / seconds, max(took_s), repeats


@pytest.mark.campaign
def test_sixteen_clients_before_seven_places_get_every_answer_and_as_many_as_before_many(exported, tmp_path):
    settings = {"WORKERS": "2", "THREADS": "18"}
    many, _, none = busy(tmp_path / "many", exported("int8"), 64, BUSY_S, **settings)
    few, longest_s, repeats = busy(tmp_path / "few", exported("int8"), 8, BUSY_S, **settings)
    settings["MODEL_CONCURRENCY"] = "3"
    fitted, _, at_start = busy(tmp_path / "fitted", exported("int8"), 8, BUSY_S, **settings)
    assert none == 0
    assert longest_s < DEADLINE_S
    assert at_start < CLIENTS < repeats  # all of them read the contract at the start
    assert min(few, fitted) > 0.5 * many  # the same on an idle machine; here other tests run, too


def test_health_answers_beside_sixteen_slow_requests(tmp_path):
    backend = Backend()
    backend.takes_s = 2.0
    with (
        serve(backend) as address,
        running(tmp_path, TF_SERVING_ADDRESS=address, THREADS="18", MODEL_CONCURRENCY="8") as function,
        ThreadPoolExecutor(CLIENTS) as pool,
    ):
        clients = [pool.submit(function.post, noise()) for _ in range(CLIENTS)]
        wait_for(lambda: backend.calls.count("serving_default") >= 8)
        for path in ("/health", "/ready"):
            start_s = time.monotonic()
            assert function.get(path).status == 200
            assert time.monotonic() - start_s < HEALTH_S
        assert not any(client.done() for client in clients)
        assert [client.result().status for client in clients] == [200] * CLIENTS
