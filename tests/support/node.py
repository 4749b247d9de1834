"""Node and the packages of tests/handler/page/package.json, which are installed below build when a test needs them."""

import fcntl
import json
import os
import shutil
import subprocess

import pytest

from tests.support.processes import ROOT

PACKAGES = ROOT / "tests" / "handler" / "page"
TOOLS = ROOT / "build" / "node"
INSTALL_S, RUN_S = 300, 120


def need(program):
    """Return the path of a program; skip the test without it, but fail where CI runs."""
    path = shutil.which(program)
    if path is None and not os.environ.get("CI"):
        pytest.skip(f"needs {program}; where CI runs it is an error")
    assert path is not None, f"needs {program}"
    return path


def run(*command, cwd=ROOT, text=None, timeout=RUN_S):
    """Return what a command prints. Fails with all of it if the command does."""
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, input=text, capture_output=True, text=True, check=False, timeout=timeout
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
    return done.stdout


def script(path, given=None):
    """Run a script in Node, with JSON for it to read; return the JSON that it prints."""
    return json.loads(run(need("node"), path, text=json.dumps(given)))


def tools():
    """Return the folder of the installed packages, installed once for each lock."""
    npm = need("npm")
    TOOLS.mkdir(parents=True, exist_ok=True)
    lock = (PACKAGES / "package-lock.json").read_bytes()
    with (TOOLS / "lock").open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        done = TOOLS / "installed"
        if not done.exists() or done.read_bytes() != lock:
            for name in ("package.json", "package-lock.json"):
                shutil.copyfile(PACKAGES / name, TOOLS / name)
            run(npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts", cwd=TOOLS, timeout=INSTALL_S)
            done.write_bytes(lock)
    return TOOLS / "node_modules"
