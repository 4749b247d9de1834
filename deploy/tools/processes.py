"""Programs that a command starts, watches and stops; each has its own log."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from deploy.tools.signals import deferred_signals

ROOT = Path(__file__).parents[2]
LOG_LINES = 8
LOOK_S = 0.1
STOP_S = 10.0  # how long a program may take to end by itself
LOCAL = "127.0.0.1,localhost"


class RunError(Exception):
    """A command cannot go on; the text is for its user."""


@dataclass(frozen=True)
class Program:
    """A running program: its name, its process (leader of its own group) and its log."""

    name: str
    process: "subprocess.Popen[bytes]"
    log: Path


class Programs:
    """Starts ``python -m`` programs and owns them. Leaving the ``with`` block stops all, the last one first."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._running: list[Program] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self, name: str, module: str, *flags: str, settings: Mapping[str, str] | None = None) -> None:
        """Run ``python -m module flags`` in the project's folder; its output goes to ``logs/name.log``.

        It has its own process group: Ctrl-C reaches only the command, which then stops the programs in order.
        """
        self._logs.mkdir(parents=True, exist_ok=True)
        log = self._logs / f"{name.replace(' ', '_')}.log"
        with deferred_signals(), log.open("wb") as sink:
            process = subprocess.Popen(
                [sys.executable, "-m", module, *flags],
                cwd=ROOT,
                env=environment(settings or {}),
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            self._running.append(Program(name, process, log))

    def check(self) -> None:
        """Raise RunError, with the end of its log, if a program has ended."""
        for program in self._running:
            code = program.process.poll()
            if code is not None:
                raise RunError(f"the {program.name} must keep running, it ended with {_exit(code)}{_tail(program.log)}")

    def wait_until(self, ready: Callable[[], bool], what: str, timeout_s: float) -> None:
        """Return once ``ready``. Raises RunError if a program ends first, or after ``timeout_s``."""
        end_s = time.monotonic() + timeout_s
        while not ready():
            self.check()
            if time.monotonic() > end_s:
                logs = ", ".join(str(program.log) for program in self._running)
                raise RunError(f"{what} was expected within {timeout_s:.0f} s and did not happen; see {logs}")
            time.sleep(LOOK_S)

    def wait(self, timeout_s: float | None = None) -> None:
        """Wait for the last program to end. Raises RunError if it fails."""
        program = self._running[-1]
        code = program.process.wait(timeout_s)
        if code:
            raise RunError(f"the {program.name} must succeed, it ended with {_exit(code)}{_tail(program.log)}")
        self._running.pop()

    def stop(self) -> None:
        """Ask every program to end; kill it, with its group, if it takes too long."""
        with deferred_signals():
            for program in reversed(self._running):
                if program.process.poll() is None:
                    program.process.terminate()
                with suppress(subprocess.TimeoutExpired):
                    program.process.wait(STOP_S)
                with suppress(ProcessLookupError, PermissionError):  # usually nothing is left of its group
                    os.killpg(program.process.pid, signal.SIGKILL)
                program.process.wait()
            self._running.clear()


def environment(settings: Mapping[str, str]) -> dict[str, str]:
    """Return this process's environment with ``settings``, and without a proxy between programs of this machine.

    gRPC obeys ``http_proxy`` even for 127.0.0.1.
    """
    inherited = {name: value for name, value in os.environ.items() if name not in ("DEBUG", "FUNCTION_USE_ASGI")}
    past = [os.environ[name] for name in ("no_proxy", "NO_PROXY") if os.environ.get(name)]
    direct = ",".join([*past[:1], LOCAL])
    return {**inherited, "no_proxy": direct, "NO_PROXY": direct, "PYTHONUNBUFFERED": "1", **settings}


def _exit(code: int) -> str:
    return f"exit code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"


def _tail(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_LINES:]
    return "\n".join([f"; {log} ends:", *(f"    {line}" for line in lines)]) if lines else f"; {log} is empty"
