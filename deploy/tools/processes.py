"""The programs that a command starts: each with a log of its own, watched while they run, all stopped at the end."""

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
STOP_S = 10.0  # what a program gets to end by itself
LOCAL = "127.0.0.1,localhost"


class RunError(Exception):
    """A command cannot go on; the text is what its caller should read."""


@dataclass(frozen=True)
class Program:
    """One running program: what to call it, its process (leader of its own group) and its log."""

    name: str
    process: "subprocess.Popen[bytes]"
    log: Path


class Programs:
    """Starts ``python -m`` programs and owns them: leaving the ``with`` block stops all, the last started first."""

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

        In a process group of its own, as Ctrl-C is for the command, which then stops the programs in order.
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
        """Raise RunError, with the end of its log, when a program has ended."""
        for program in self._running:
            code = program.process.poll()
            if code is not None:
                raise RunError(f"the {program.name} must keep running, it ended with {_exit(code)}{_tail(program.log)}")

    def wait_until(self, ready: Callable[[], bool], what: str, timeout_s: float) -> None:
        """Return once ``ready``. Raises RunError when a program ends before, or after ``timeout_s``."""
        end_s = time.monotonic() + timeout_s
        while not ready():
            self.check()
            if time.monotonic() > end_s:
                logs = ", ".join(str(program.log) for program in self._running)
                raise RunError(f"{what} was expected within {timeout_s:.0f} s and did not happen; see {logs}")
            time.sleep(LOOK_S)

    def wait(self, timeout_s: float | None = None) -> None:
        """Return when the program started last has ended well. Raises RunError when it failed."""
        program = self._running[-1]
        code = program.process.wait(timeout_s)
        if code:
            raise RunError(f"the {program.name} must succeed, it ended with {_exit(code)}{_tail(program.log)}")
        self._running.pop()

    def stop(self) -> None:
        """End every program: asked first, killed with all its group when it takes too long."""
        with deferred_signals():
            for program in reversed(self._running):
                if program.process.poll() is None:
                    program.process.terminate()
                with suppress(subprocess.TimeoutExpired):
                    program.process.wait(STOP_S)
                with suppress(ProcessLookupError, PermissionError):  # nothing is left of its group, the usual case
                    os.killpg(program.process.pid, signal.SIGKILL)
                program.process.wait()
            self._running.clear()


def environment(settings: Mapping[str, str]) -> dict[str, str]:
    """Return this process's environment with ``settings``, and with no proxy between programs of one machine.

    gRPC, too, obeys ``http_proxy``, even for 127.0.0.1.
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
