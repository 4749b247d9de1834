"""A stand-in as a process of its own that a test starts, kills without a word, and starts again."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
START_S = 120


class Replica:
    """One stand-in on ``host``:``port``, with ``flags`` that say what it serves."""

    def __init__(self, host, port, *flags, log):
        self.host, self.port, self.log = host, port, log
        self._flags = [f"--grpc_bind_address={host}", f"--port={port}", *flags]
        self._process = None

    def start(self):
        with self.log.open("ab") as sink:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "deploy.model_server", *self._flags],
                cwd=ROOT,
                stdout=sink,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait(self):
        """Return once it listens."""
        end_s = time.monotonic() + START_S
        while time.monotonic() < end_s and self._process.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex((self.host, self.port)) == 0:
                    return
            time.sleep(0.1)
        raise RuntimeError(f"the stand-in must listen within {START_S} s, its log: {self.log.read_text()}")

    def kill(self):
        """End it at once, as a machine that fails does."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def cpu_s(self):
        """Return the processor seconds it has taken."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
