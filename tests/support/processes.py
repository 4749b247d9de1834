"""Programs that tests start: each on a port of its own, awaited until it listens, ended with all its process group."""

import fcntl
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
HOST = "127.0.0.1"
START_S, STOP_S = 120, 10
PORTS = range(20_000, 32_000)  # below those that Linux gives to connections and to whoever binds port 0
DIRECT = ",".join(filter(None, [os.environ.get("no_proxy"), "127.0.0.1,localhost"]))  # gRPC, too, obeys http_proxy
_claims = []  # open files, one for each port of this process


def free_port(host=HOST):
    """Return a port that nothing listens on and that no other test run gets as long as this process lives."""
    folder = Path(tempfile.gettempdir(), f"segment-test-ports-{os.getuid()}")
    folder.mkdir(exist_ok=True)
    for port in random.SystemRandom().sample(PORTS, 200):
        claim = (folder / str(port)).open("w")
        try:
            fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with socket.create_server((host, port)):
                _claims.append(claim)
                return port
        except OSError:  # another run has claimed it, or something listens there
            claim.close()
    raise RuntimeError(f"one of 200 ports in {PORTS.start}..{PORTS.stop - 1} must be free on {host}, got none")


class Program:
    """A program that will listen on ``host``:``port``; what it prints goes to the end of ``log``.

    In a ``with`` block it listens, and it is gone afterwards.
    """

    def __init__(self, command, port, log, *, host=HOST, cwd=ROOT, env=None):
        self.host, self.port, self.log = host, port, log
        self.process = None
        self._command, self._cwd, self._env = command, cwd, env

    def __enter__(self):
        self.start()
        try:
            self.wait()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_):
        self.stop()

    def start(self):
        """Start it in a process group of its own."""
        with self.log.open("ab") as sink:
            self.process = subprocess.Popen(
                self._command,
                cwd=self._cwd,
                env=self._env,
                stdout=sink,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait(self):
        """Return once it listens."""
        wait_for(self.port, self.process, self.log, self.host)

    def stop(self):
        """Ask it to end; kill all its group if it does not."""
        if self.process is not None:
            self._signal(signal.SIGTERM)
            try:
                self.process.wait(STOP_S)
            finally:
                self.kill()

    def kill(self):
        """End it at once, as a machine that fails does."""
        if self.process is not None:
            self._signal(signal.SIGKILL)
            self.process.wait()
            self.process = None

    def _signal(self, number):
        try:
            os.killpg(self.process.pid, number)
        except ProcessLookupError:  # nothing is left of its group
            return


def wait_for(port, process, log, host=HOST):
    """Return once the process listens. Raises RuntimeError with its log if it ends before, or takes too long."""
    end_s = time.monotonic() + START_S
    while time.monotonic() < end_s and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex((host, port)) == 0:
                return
        time.sleep(0.05)
    raise RuntimeError(f"{process.args} must listen within {START_S} s, its log: {log.read_text()}")


class StandIn(Program):
    """The stand-in for TensorFlow Serving, with ``flags`` that say what it serves."""

    def __init__(self, *flags, log, host=HOST, port=None):
        port = port or free_port(host)
        where = [f"--grpc_bind_address={host}", f"--port={port}"]
        super().__init__([sys.executable, "-m", "deploy.model_server", *where, *flags], port, log, host=host)

    def cpu_s(self):
        """Return the processor seconds it has taken."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
