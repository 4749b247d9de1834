"""The function as its users meet it: a process of its own, a real socket, under each server that runs it.

Behind it is a backend that tests script, or, where TF_SERVING_ADDRESS names one, a TensorFlow Serving with the model of
``tests.http.model``.
"""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.http import scenes
from tests.support.backend import Backend, serve

ROOT = Path(__file__).parents[2]
SERVERS = {"gunicorn": (), "flask": ("--debug",)}  # functions-framework's two: deployed, and with --debug
ORIGIN = "https://app.example"
KEYS = ("first-key-0123456789", "second-key-0123456789")
START_S, ANSWER_S = 60, 30
TF_SERVING = os.environ.get("TF_SERVING_ADDRESS")
MODEL = {"name": (os.environ.get("MODEL_NAME") or scenes.NAME) if TF_SERVING else "shapes", "version": scenes.VERSION}
SCRIPTED = pytest.StashKey()  # the tests that a TensorFlow Serving is not asked
DIRECT = ",".join(filter(None, [os.environ.get("no_proxy"), "127.0.0.1,localhost"]))  # gRPC, too, obeys http_proxy


@dataclass(frozen=True)
class Answer:
    """One HTTP response; ``headers`` by lower-case name."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self):
        return json.loads(self.body)


class Function:
    """A running function; ``backend`` is the scripted one behind it, or None before a TensorFlow Serving."""

    def __init__(self, port, process, log, backend):
        self.port, self.process, self.log, self.backend = port, process, log, backend
        self.url = f"http://127.0.0.1:{port}"

    def ask(self, method, path, body=None, headers=()):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=ANSWER_S)
        try:
            connection.request(method, path, body, dict(headers))
            response = connection.getresponse()
            fields = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, fields, response.read())
        finally:
            connection.close()

    def get(self, path, **headers):
        return self.ask("GET", path, headers=headers)

    def post(self, body, query="", content_type="application/octet-stream", headers=()):
        return self.ask("POST", f"/{query}", body, {"Content-Type": content_type, **dict(headers)})

    def peak_bytes(self):
        """Return the most memory that the largest process of the function's group ever had resident."""
        sizes = [0]
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                group = int(stat.read_text().rpartition(")")[2].split()[2])
                status = (stat.parent / "status").read_text()
            except (OSError, IndexError):  # it ended meanwhile
                continue
            if group == self.process.pid and (found := re.search(r"VmHWM:\s+(\d+) kB", status)):
                sizes.append(1024 * int(found[1]))
        return max(sizes)

    def log_lines(self):
        lines = self.log.read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith('{"severity"')]


def pytest_configure(config):
    config.addinivalue_line("markers", "scripted: changes what the backend answers, as only a scripted one lets it")


def pytest_collection_modifyitems(config, items):
    if not TF_SERVING:
        return
    config.stash[SCRIPTED] = [item for item in items if item.get_closest_marker("scripted")]
    config.hook.pytest_deselected(items=config.stash[SCRIPTED])
    items[:] = [item for item in items if not item.get_closest_marker("scripted")]


def pytest_terminal_summary(terminalreporter, config):
    if TF_SERVING:
        told = f"{len(config.stash.get(SCRIPTED, []))} deselected that change what a scripted backend answers"
        terminalreporter.line(f"against TensorFlow Serving on {TF_SERVING}, model {MODEL['name']}: {told}")


@contextmanager
def model_server():
    """Yield the address of what answers the scene behind a function, and the backend where that is scripted."""
    if TF_SERVING:
        yield TF_SERVING, None
    else:
        backend = show_scene(Backend())
        with serve(backend) as address:
            yield address, backend


@contextmanager
def running(folder, server, **settings):
    """Start the function, yield it once it listens, and end all its processes."""
    with model_server() as (address, backend), socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
        probe.close()
        log = folder / "function.log"
        serving = {"TF_SERVING_ADDRESS": address, "MODEL_NAME": MODEL["name"]}
        command = [sys.executable, "-m", "functions_framework", "--target=segment", "--source=main.py"]
        with log.open("wb") as sink:
            process = subprocess.Popen(
                [*command, "--host=127.0.0.1", f"--port={port}", *SERVERS[server]],
                cwd=ROOT,
                env={**os.environ, **serving, "no_proxy": DIRECT, **settings},
                stdout=sink,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            wait_for(port, process, log)
            yield Function(port, process, log, backend)
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(10)
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)


def wait_for(port, process, log):
    end_s = time.monotonic() + START_S
    while time.monotonic() < end_s and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise RuntimeError(f"the function must listen within {START_S} s, its log: {log.read_text()}")


@pytest.fixture(scope="package", params=SERVERS)
def started(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    with running(folder, request.param, CORS_ORIGINS=ORIGIN, GOOGLE_CLOUD_PROJECT="a-project") as function:
        yield function


def show_scene(backend):
    """Let a backend be as new, and answer the scene."""
    backend.__init__()
    backend.contract = scenes.CONTRACT.to_json()
    backend.outputs = scenes.outputs()
    return backend


@pytest.fixture
def function(started):
    """Return the function, open to all."""
    if started.backend:
        show_scene(started.backend)
    return started


@pytest.fixture(scope="package", params=SERVERS)
def locked(request, tmp_path_factory):
    """Yield a function that asks for API keys."""
    folder = tmp_path_factory.mktemp(f"locked-{request.param}")
    with running(folder, request.param, API_KEYS=", ".join(KEYS)) as function:
        yield function
