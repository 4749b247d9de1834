"""The processes that are measured: a backend that answers what was recorded, and functions in front of it."""

import ctypes
import hashlib
import http.client
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import grpc

from deploy.local.stack import HOST
from deploy.tools.processes import RunError, environment
from handler.backend.channel import CHANNEL_OPTIONS
from handler.backend.client import PREDICT
from tests.bench import backend
from tests.support.processes import free_port

ROOT = Path(__file__).parents[2]
FUNCTIONS = ROOT / "tests" / "bench" / "functions"
OURS = ROOT / "main.py"
START_S = 120
ANSWER_S = 600


def recorded(build):
    """Return the folder of recorded answers, made anew where what makes them has changed."""
    source = (ROOT / "tests" / "bench" / "recorded.py").read_bytes()
    weights = (ROOT / "deploy" / "models" / "shapes" / "shapes.weights.h5").read_bytes()
    folder = build / f"recorded-{hashlib.sha256(source + weights).hexdigest()[:12]}"
    if not folder.exists():
        print("recording what the model answers ...", flush=True)
        work = folder.with_suffix(".part")
        subprocess.run(
            [sys.executable, "-m", "tests.bench.recorded", work], cwd=ROOT, check=True, stdout=subprocess.DEVNULL
        )
        work.rename(folder)
    return folder


class Stack:
    """Starts functions, one after another, in front of one backend; `count` objects are answered."""

    def __init__(self, build, programs):
        self.folder = recorded(build)
        self.programs = programs
        self.grpc_port, self.rest_port = free_port(), free_port()
        programs.start("backend", "tests.bench.backend", str(self.folder), str(self.grpc_port), str(self.rest_port))
        self.address = f"{HOST}:{self.grpc_port}"
        self.channel = grpc.insecure_channel(self.address, options=CHANNEL_OPTIONS)
        grpc.channel_ready_future(self.channel).result(START_S)
        self.predict = self.channel.unary_unary(PREDICT)
        self._set = self.channel.unary_unary(backend.COUNT)
        self._cost = self.channel.unary_unary(backend.JPEG_COST)

    def count(self, objects):
        self._set(str(objects).encode())

    def predict_at(self, address):
        """Return a bare gRPC call of the backend at another address, such as that of a link."""
        return grpc.insecure_channel(address, options=CHANNEL_OPTIONS).unary_unary(PREDICT)

    def jpeg_cost(self):
        """Return what JPEGs cost the backend since the last call; {} if there were none."""
        return json.loads(self._cost(b""))

    def settings(self, model):
        return {
            "TF_SERVING_ADDRESS": self.address,
            "TF_SERVING_REST": f"{HOST}:{self.rest_port}",
            "MODEL_NAME": model,
            "CUDA_VISIBLE_DEVICES": "",
            "TF_CPP_MIN_LOG_LEVEL": "3",
        }

    def start(self, name, source=OURS, model="int8", **settings):
        """Start a function and return it once it answered."""
        function = Function(name, source, self.settings(model) | settings, self.folder.parent)
        function.wait(lambda: function.ask("GET", "/health"))
        return function


class Function:
    """One function under functions-framework, in a process group of its own."""

    def __init__(self, name, source, settings, logs):
        self.name = name
        self.port = free_port()
        self.log = logs / f"{name.replace(' ', '_').replace('/', '_')}.log"
        self.started_s = time.perf_counter()
        flags = ("--target=segment", f"--source={source}", f"--host={HOST}", f"--port={self.port}")
        with self.log.open("wb") as sink:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "functions_framework", *flags],
                cwd=ROOT,
                env=environment({**settings, "PYTHONPATH": str(ROOT)}),
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def ask(self, method, path, body=b""):
        connection = http.client.HTTPConnection(HOST, self.port, timeout=ANSWER_S)
        try:
            connection.request(method, path, body, {"Content-Type": "image/jpeg"})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def post(self, photo):
        status, body = self.ask("POST", "/", photo)
        if status != 200:
            raise RunError(
                f"{self.name} must answer 200, got {status}: {body[:500].decode(errors='replace')}; {self.log}"
            )
        return body

    def wait(self, attempt):
        """Return what the first attempt gives that finds the function listening."""
        end_s = time.monotonic() + START_S
        while time.monotonic() < end_s and self.process.poll() is None:
            try:
                return attempt()
            except ConnectionError:
                time.sleep(0.002)
        raise RunError(f"{self.name} must answer within {START_S} s, see {self.log}")

    def workers(self):
        """Return the process ids of those that answer: the children, or the process itself."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [int(child) for child in children] or [self.process.pid]

    def resident_bytes(self):
        """Return the resident memory of the worker."""
        return sum(resident(pid) for pid in self.workers())

    def cpu_s(self):
        """Return the processor seconds that the workers have used, exact to nanoseconds; /proc has hundredths."""
        total_s, clock, libc = 0.0, ctypes.c_int(), ctypes.CDLL(None)
        for pid in self.workers():
            assert libc.clock_getcpuclockid(pid, ctypes.byref(clock)) == 0, f"worker {pid} has ended"
            total_s += time.clock_gettime(clock.value)
        return total_s

    def stop(self):
        if self.process.poll() is None:
            os.killpg(self.process.pid, 15)
        self.process.wait(30)


def resident(pid):
    status = Path(f"/proc/{pid}/status").read_text()
    return 1024 * int(status.split("VmRSS:")[1].split()[0])
