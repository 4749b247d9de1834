"""The project's own Python: ``.venv`` with all that the requirements name, made by ``make`` and by nothing else.

``python3.11 -m deploy.local.environment``, with the Python that shall be inside; standard library only. Once made it is
recognised by one hash. What was interrupted carries a mark and is begun anew, as pip may take a half-written package
for an installed one.
"""

import fcntl
import hashlib
import re
import subprocess
import sys
import time
from pathlib import Path

from deploy.tools.signals import stop_signals

ROOT = Path(__file__).parents[2]
WANTED = "tests/requirements.txt"  # it names the others
REQUIREMENTS = ("requirements.txt", "deploy/constraints.txt", "deploy/requirements.txt", WANTED)
PIP = ("-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--progress-bar=off", "--retries=3")
LOOK_S, REPORT_S = 0.2, 20.0  # how often to look at pip, and to say something where no terminal shows the progress
WIDTH = 100
NO_NETWORK = re.compile(r"connection broken by '?([^:('\"]+)|(Could not fetch URL|Max retries exceeded|Read timed out)")


class SetupError(Exception):
    """The environment cannot be made; the text is the one line to read."""


def main(root: Path = ROOT) -> int:
    """Make or repair ``.venv`` under ``root``; return the exit code."""
    try:
        with stop_signals():
            prepare(root)
    except SetupError as error:
        print(f"setup: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("setup: interrupted; the next make begins anew", file=sys.stderr)
        return 130
    return 0


def prepare(root: Path) -> None:
    """Make ``.venv`` under ``root`` hold what the requirements say. Raises SetupError."""
    build = root / "build"
    if _is_ready(root):
        return
    try:
        build.mkdir(exist_ok=True)
        lock = (build / "setup.lock").open("w")
    except OSError as error:
        raise SetupError(f"the folder must be writable, got {error.strerror}: {error.filename}") from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # held until the file closes: a second make waits for the first
        if not _is_ready(root):
            _make(root, build / "setup.log")


def _make(root: Path, log: Path) -> None:
    venv = root / ".venv"
    unfinished, stamp = venv / "unfinished", venv / "requirements.sha256"
    if unfinished.exists() or not _runs(venv):
        _create(venv, log)
    unfinished.touch()
    stamp.unlink(missing_ok=True)
    version = ".".join(map(str, sys.version_info[:2]))
    print(
        f"setup: installing into .venv (Python {version}): TensorFlow and the tools, about 2 GB, some minutes",
        flush=True,
    )
    started = time.monotonic()
    _install(venv, root, log)
    stamp.write_text(_digest(root), encoding="utf-8")
    unfinished.unlink()
    print(f"setup: done in {time.monotonic() - started:.0f} s", flush=True)


def _is_ready(root: Path) -> bool:
    venv = root / ".venv"
    stamp = venv / "requirements.sha256"
    whole = _python(venv).exists() and stamp.exists() and not (venv / "unfinished").exists()
    return whole and stamp.read_text(encoding="utf-8") == _digest(root)


def _digest(root: Path) -> str:
    whole = hashlib.sha256()
    for name in REQUIREMENTS:
        whole.update((root / name).read_bytes())
    return whole.hexdigest()


def _python(venv: Path) -> Path:
    return venv / "bin" / "python"


def _runs(venv: Path) -> bool:
    """Tell whether there is an environment whose Python and pip start."""
    if not _python(venv).exists():  # a link whose target is gone does not exist either
        return False
    return subprocess.run([_python(venv), "-m", "pip", "--version"], capture_output=True, check=False).returncode == 0


def _create(venv: Path, log: Path) -> None:
    command = [sys.executable, "-m", "venv", "--clear", str(venv)]
    with log.open("w", encoding="utf-8") as sink:
        made = subprocess.run(command, stdout=sink, stderr=subprocess.STDOUT, check=False)
    if made.returncode:
        package = f"python{sys.version_info.major}.{sys.version_info.minor}-venv"
        raise SetupError(
            f"{sys.executable} cannot make an environment (on Debian install {package}); see build/{log.name}"
        )


def _install(venv: Path, root: Path, log: Path) -> None:
    with log.open("w", encoding="utf-8") as sink:
        pip = subprocess.Popen(
            [_python(venv), *PIP, "-r", WANTED], cwd=root, stdout=sink, stderr=subprocess.STDOUT, text=True
        )
        try:
            _show(pip, log)
        except BaseException:
            pip.terminate()
            raise
        finally:
            pip.wait()
    if pip.returncode:
        raise SetupError(_reason(log.read_text(encoding="utf-8", errors="replace"), log))


def _show(pip: "subprocess.Popen[str]", log: Path) -> None:
    """Follow pip by the last line of its log: in place on a terminal, else a line now and then."""
    started = said = time.monotonic()
    terminal = sys.stdout.isatty()
    while pip.poll() is None:
        time.sleep(LOOK_S)
        now = time.monotonic()
        if not terminal and now - said < REPORT_S:
            continue
        said = now
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines() or [""]
        text = f"  {now - started:4.0f} s  {lines[-1].strip()}"[:WIDTH]
        print(f"\r{text:{WIDTH}}" if terminal else text, end="" if terminal else "\n", flush=True)
    if terminal:
        print(f"\r{'':{WIDTH}}\r", end="", flush=True)


def _reason(output: str, log: Path) -> str:
    if lost := NO_NETWORK.search(output):
        what = lost[1] or lost[2]
        return (
            f"pip cannot reach the package index ({what}): is there a network? The whole story is in build/{log.name}"
        )
    errors = [line for line in output.splitlines() if line.startswith("ERROR:")]
    last = errors[-1].removeprefix("ERROR:").strip() if errors else "it gave no reason"
    return f"pip could not install the requirements: {last} (build/{log.name})"


if __name__ == "__main__":
    sys.exit(main())
