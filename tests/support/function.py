"""The function as its users meet it: a process of its own behind a real socket."""

import http.client
import json
import os
import re
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.processes import DIRECT, HOST, ROOT, Program, free_port

ANSWER_S = 30


@dataclass(frozen=True)
class Answer:
    """One HTTP response; ``headers`` by lower-case name."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self):
        return json.loads(self.body)


class Function:
    """A running function; ``backend`` is the scripted one behind it, or None before a real model server."""

    def __init__(self, program, backend=None):
        self.program, self.backend = program, backend
        self.port, self.log = program.port, program.log
        self.url = f"http://{HOST}:{self.port}"
        self.answer_s = ANSWER_S

    def ask(self, method, path, body=None, headers=()):
        connection = http.client.HTTPConnection(HOST, self.port, timeout=self.answer_s)
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

    def forget_peak(self):
        """Let :meth:`peak_bytes` count from now on."""
        for process in self._processes():
            (process / "clear_refs").write_text("5")

    def peak_bytes(self):
        """Return the most memory that any process of the function's group had resident since it started."""
        return max(self._peaks_bytes())

    def peak_bytes_of_all(self):
        """Return the sum of what each process of the group had resident at most; pages that they share count twice."""
        return sum(self._peaks_bytes())

    def _peaks_bytes(self):
        found = [re.search(r"VmHWM:\s+(\d+) kB", (one / "status").read_text()) for one in self._processes()]
        return [1024 * int(peak[1]) for peak in found]

    def cpu_s(self):
        """Return the processor seconds that the function's processes have taken."""
        fields = [(one / "stat").read_text().rpartition(")")[2].split() for one in self._processes()]
        return sum(int(one[11]) + int(one[12]) for one in fields) / os.sysconf("SC_CLK_TCK")

    def _processes(self):
        """Return the folders in /proc of the processes of the function's group."""
        return [one.parent for one in Path("/proc").glob("[0-9]*/stat") if self._is_ours(one)]

    def _is_ours(self, stat):
        try:
            return int(stat.read_text().rpartition(")")[2].split()[2]) == self.program.process.pid
        except OSError:  # it ended meanwhile
            return False

    def log_lines(self):
        lines = self.log.read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith('{"severity"')]


@contextmanager
def running(folder, *flags, python=sys.executable, cwd=ROOT, backend=None, **settings):
    """Start the function under functions-framework, yield it once it listens, and end all its processes.

    Its log is ``folder``/function.log; ``settings`` are further variables of its environment.
    """
    port, log = free_port(), folder / "function.log"
    log.unlink(missing_ok=True)
    command = [python, "-m", "functions_framework", "--target=segment", f"--host={HOST}", f"--port={port}", *flags]
    with Program(command, port, log, cwd=cwd, env={**os.environ, "no_proxy": DIRECT, **settings}) as program:
        yield Function(program, backend)
