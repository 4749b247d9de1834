"""Setting up: `make` makes .venv of the lock, and says what is missing."""

import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from deploy.bundle import pins

ROOT = Path(__file__).parents[3]
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
SETUP = ["make", "--no-print-directory", "setup", f"PYTHON={sys.executable}"]


def locked(name):
    """Return the lines of a package in the lock: its version and its hashes."""
    return re.search(rf"^{name}==.*?[^\\]\n", LOCK, re.MULTILINE | re.DOTALL)[0]


@pytest.fixture
def clone(tmp_path):
    """A folder with the Makefile and a lock that holds uv alone."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "requirements.lock").write_text(locked("uv"))
    return tmp_path


def start(folder, command=SETUP):
    environ = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    return subprocess.Popen(
        command,
        cwd=folder,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - background jobs ignore it
    )


def run(folder, command=SETUP):
    made = start(folder, command)
    out, err = made.communicate(timeout=300)
    return made.returncode, out, err


@pytest.mark.campaign
def test_it_is_made_once_and_again_when_interrupted_or_when_the_lock_changes(clone):
    interrupted = start(clone)
    while not (clone / ".venv/bin/pip").exists():
        assert interrupted.poll() is None
        time.sleep(0.05)
    os.killpg(interrupted.pid, signal.SIGINT)
    interrupted.communicate(timeout=60)
    assert interrupted.returncode != 0

    at_once = [start(clone), start(clone)]
    said = [made.communicate(timeout=300)[0] for made in at_once]
    assert [made.returncode for made in at_once] == [0, 0]
    assert sum("installing" in out for out in said) == 1
    assert "installing" not in run(clone)[1]

    with (clone / "requirements.lock").open("a") as lock:
        lock.write(locked("six"))
    assert "installing" in run(clone)[1]
    subprocess.run([clone / ".venv/bin/python", "-c", "import six"], check=True)


@pytest.mark.campaign
def test_a_package_with_another_hash_is_refused(clone):
    (clone / "requirements.lock").write_text(locked("uv") + "six==1.17.0 --hash=sha256:" + "0" * 64 + "\n")
    code, _, err = run(clone)
    assert code != 0
    assert "Hash mismatch for `six==1.17.0`" in err
    assert not (clone / ".venv/ready").exists()


@pytest.mark.parametrize("version", ["(3, 10)", "(3, 14)"])
def test_another_python_is_refused_in_a_line(clone, version):
    other = clone / "python"
    other.write_text(f'#!/bin/sh\nexec {sys.executable} -c "import sys; sys.version_info = {version}; $2"\n')
    other.chmod(other.stat().st_mode | stat.S_IXUSR)
    refused(clone, other)


def test_no_python_at_all_is_refused_in_a_line(clone):
    refused(clone, "/no/such/python")


def refused(clone, python):
    code, _, err = run(clone, ["make", "--no-print-directory", "demo", f"PYTHON={python}"])
    assert code == 2
    said = [line for line in err.splitlines() if not line.startswith("make: ***")]
    assert len(said) == 1, err
    assert f"Python 3.11, 3.12 or 3.13 is needed, got none of {python}" in said[0]


def test_the_lock_holds_what_is_required():
    versions = dict(re.findall(r"^(\S+)==(\S+)", LOCK, re.MULTILINE))
    for needed in map(Requirement, pins.direct()):
        assert versions[canonicalize_name(needed.name)] in needed.specifier
    for name in ("deploy/requirements.in", "tests/requirements.in"):
        lines = [line for line in (ROOT / name).read_text().splitlines() if not line.startswith("#")]
        assert {canonicalize_name(Requirement(line).name) for line in lines} <= versions.keys()


def test_the_lock_says_how_it_is_made():
    command = re.search(r"^#    (uv pip compile .*)$", LOCK, re.MULTILINE)[1]
    assert command in (ROOT / "Makefile").read_text()
