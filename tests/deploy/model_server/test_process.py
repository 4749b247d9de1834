"""The stand-in as a process: its lines, its exit codes, its signals, its health."""

import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2

from deploy.model_server.server import Router

from .conftest import GOLDEN

MODEL = GOLDEN / "models" / "half_plus_two"
ROOT = Path(__file__).parents[3]
CHECK, WATCH = "/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"


class Process:
    """A running server, its lines as they come."""

    def __init__(self, *arguments):
        self.popen = subprocess.Popen(
            [sys.executable, "-m", "deploy.model_server", *map(str, arguments)],
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.lines = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self):
        for line in self.popen.stderr:
            self.lines.append(line.rstrip())

    def wait_for_line(self, pattern, timeout_s=60):
        deadline_s = time.monotonic() + timeout_s
        while time.monotonic() < deadline_s:
            for line in list(self.lines):
                if match := re.search(pattern, line):
                    return match
            time.sleep(0.05)
        raise AssertionError(f"no line with {pattern!r} in {self.lines}")

    def exit_code(self, timeout_s=60):
        code = self.popen.wait(timeout_s)
        self._reader.join()
        self.popen.stderr.close()
        return code


@pytest.fixture
def start():
    processes = []

    def launch(*arguments):
        processes.append(Process(*arguments))
        return processes[-1]

    yield launch
    for process in processes:
        if process.popen.poll() is None:
            process.popen.kill()
            process.exit_code()


def health(target, service):
    request = health_pb2.HealthCheckRequest(service=service).SerializeToString()
    with grpc.insecure_channel(target) as channel:
        reply = channel.unary_unary(CHECK)(request, timeout=10)
    return health_pb2.HealthCheckResponse.FromString(reply).status


def watched(target, service):
    """Return the first status of a watch."""
    request = health_pb2.HealthCheckRequest(service=service).SerializeToString()
    with grpc.insecure_channel(target) as channel:
        return health_pb2.HealthCheckResponse.FromString(next(channel.unary_stream(WATCH)(request, timeout=10))).status


def refused(target, path, request):
    with grpc.insecure_channel(target) as channel, pytest.raises(grpc.RpcError) as failure:
        channel.unary_unary(path)(request, timeout=10)
    return failure.value.code(), failure.value.details()


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.campaign)])
def test_serves_is_healthy_and_stops(start, number):
    process = start("--port=0", f"--model_base_path={MODEL}", "--enable_grpc_healthcheck_service")
    target = process.wait_for_line(r"over gRPC at (127\.0\.0\.1:\d+)")[1]
    for service in ("", "ModelService", "PredictionService"):
        assert health(target, service) == health_pb2.HealthCheckResponse.SERVING
        assert watched(target, service) == health_pb2.HealthCheckResponse.SERVING
    assert watched(target, "nope") == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
    assert refused(target, CHECK, health_pb2.HealthCheckRequest(service="nope").SerializeToString()) == (
        grpc.StatusCode.NOT_FOUND,
        "service name unknown",
    )
    invalid = grpc.StatusCode.INVALID_ARGUMENT, "could not parse request"
    assert refused(target, CHECK, b"\xff") == invalid
    process.popen.send_signal(number)
    assert process.exit_code() == 0, process.lines


@pytest.mark.campaign
def test_a_unix_socket_alone(start, tmp_path):
    path = tmp_path / "grpc.sock"
    process = start(
        "--port=0", f"--grpc_socket_path={path}", f"--model_base_path={MODEL}", "--enable_grpc_healthcheck_service"
    )
    assert process.wait_for_line(r"over gRPC at (\S+)")[1] == f"unix:{path}"
    assert health(f"unix:{path}", "") == health_pb2.HealthCheckResponse.SERVING


def test_waits_deaf_until_the_base_path_has_a_version(start, tmp_path):
    base = tmp_path / "m"
    process = start("--port=0", f"--model_base_path={base}")
    process.wait_for_line("cannot be read")
    base.mkdir()
    process.wait_for_line("no numbered version")
    assert not any("over gRPC" in line for line in process.lines)
    shutil.copytree(MODEL / "123", tmp_path / "copy")
    (tmp_path / "copy").rename(base / "1")
    process.wait_for_line("over gRPC at")


@pytest.mark.campaign
def test_stops_while_it_waits(start, tmp_path):
    process = start("--port=0", f"--model_base_path={tmp_path}")
    process.wait_for_line("no numbered version")
    process.popen.terminate()
    assert process.exit_code() == 0


def test_a_broken_first_version_ends_it_as_it_ends_tensorflow_serving(start, tmp_path):
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "saved_model.pb").write_bytes(b"\xff broken")
    retries = "--max_num_load_retries=2", "--load_retry_interval_micros=1000"
    process = start("--port=0", "--model_name=m", f"--model_base_path={tmp_path}", *retries)
    assert process.exit_code() == 255
    assert sum("cannot be loaded" in line for line in process.lines) == 3
    assert process.lines[-1] == (
        "Failed to start server. Error: UNKNOWN: 1 servable(s) did not become available:"
        " {{{name: m version: 1} due to error: OUT_OF_RANGE: Read less bytes than requested}, }"
    )


def test_a_taken_port_is_one_line_at_once(start):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = start(f"--port={port}", f"--model_base_path={MODEL}")
        assert process.exit_code() == 1
    assert len(process.lines) == 1
    assert f"127.0.0.1:{port}" in process.lines[0]


def test_a_wrong_value_is_one_line(start):
    process = start("--port=x", f"--model_base_path={MODEL}")
    assert process.exit_code() == 1
    assert len(process.lines) == 1
    assert "--port" in process.lines[0]


def test_what_tensorflow_serving_refuses_ends_it_with_its_words_and_exit_code(start):
    process = start("--prot=1", "--model_name=m", "--model_base_path=models/m")
    assert process.exit_code() == 255
    assert process.lines[0].startswith("unknown argument: --prot=1")
    assert process.lines[-1] == (
        "Failed to start server. Error: INVALID_ARGUMENT: Expected model m to have an absolute path or URI;"
        " got base_path()=models/m"
    )


def test_a_config_file_names_several_models(start, tmp_path):
    text = (GOLDEN / "models.config").read_text(encoding="utf-8").replace("models/", f"{GOLDEN}/models/")
    (tmp_path / "models.config").write_text(text, encoding="utf-8")
    labels = "--allow_version_labels_for_unavailable_models"
    process = start("--port=0", f"--model_config_file={tmp_path / 'models.config'}", labels)
    process.wait_for_line("serving tiny, half_plus_two over gRPC")


def test_a_config_file_that_is_none_is_one_line(start, tmp_path):
    (tmp_path / "models.config").write_text("model_config_list {", encoding="utf-8")
    process = start("--port=0", f"--model_config_file={tmp_path / 'models.config'}")
    assert process.exit_code() == 1
    assert "must be a text ModelServerConfig" in process.lines[-1]


@pytest.mark.parametrize("threads", [1, 4])
def test_a_call_less_than_it_has_threads_runs_at_once_and_the_others_are_refused_at_once(threads):
    begun, go = threading.Semaphore(0), threading.Event()

    def method(serialised):
        begun.release()
        go.wait(60)
        return serialised

    server = grpc.server(ThreadPoolExecutor(threads))
    server.add_generic_rpc_handlers((Router({"/a/b": method}, threads - 1),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary("/a/b")
        running = [call.future(b"%d" % number, timeout=60) for number in range(threads - 1)]
        for _ in running:
            assert begun.acquire(timeout=60)
        for _ in range(5):
            with pytest.raises(grpc.RpcError) as refusal:
                call(b"", timeout=10)
            assert refusal.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
            assert refusal.value.details() == "Server Threadpool Exhausted"
        go.set()
        assert [future.result() for future in running] == [b"%d" % number for number in range(threads - 1)]
        if running:
            assert call(b"again", timeout=10) == b"again"
    server.stop(None).wait()
