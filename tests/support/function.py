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

    def ask(self, method, path, body=None, headers=()):
        connection = http.client.HTTPConnection(HOST, self.port, timeout=ANSWER_S)
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
            if group == self.program.process.pid and (found := re.search(r"VmHWM:\s+(\d+) kB", status)):
                sizes.append(1024 * int(found[1]))
        return max(sizes)

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
