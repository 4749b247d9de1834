"""Setting up: what `make` says where it cannot."""

import os
import shutil
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PROGRAM = "import sys; from pathlib import Path; from deploy.local import environment; {}"
MAIN = PROGRAM.format("sys.exit(environment.main(Path(sys.argv[1])))")


@pytest.fixture
def clone(tmp_path):
    """A folder with the requirements and the Makefile of the project."""
    for name in ("requirements.txt", "deploy/constraints.txt", "deploy/requirements.txt", "tests/requirements.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


@pytest.fixture
def closed_port():
    """A port that refuses connections: bound by us, never listened on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


def run(command, **settings):
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "MAKE"))}
    environ = {**plain, "PIP_CONFIG_FILE": os.devnull, **settings}
    return subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=120, check=False)


def test_without_a_network_it_says_so_in_a_line_and_begins_anew_next_time(clone, closed_port):
    index = f"http://127.0.0.1:{closed_port}/simple"
    ended = run([sys.executable, "-c", MAIN, str(clone)], PIP_INDEX_URL=index, PIP_NO_CACHE_DIR="1")
    assert ended.returncode == 1
    assert len(ended.stderr.splitlines()) == 1, ended.stderr
    assert "is there a network?" in ended.stderr
    assert (clone / ".venv" / "unfinished").exists()


def test_a_requirement_that_does_not_exist_is_named(clone):
    for name in ("requirements.txt", "deploy/requirements.txt", "deploy/constraints.txt"):
        (clone / name).write_text("")
    (clone / "tests/requirements.txt").write_text("--no-index\nno-such-package-of-ours==1\n")
    ended = run([sys.executable, "-c", MAIN, str(clone)])
    assert ended.returncode == 1
    assert len(ended.stderr.splitlines()) == 1, ended.stderr
    assert "no-such-package-of-ours" in ended.stderr


def test_what_is_whole_is_recognised_and_what_changed_is_not(clone):
    for name in ("requirements.txt", "deploy/requirements.txt", "deploy/constraints.txt", "tests/requirements.txt"):
        (clone / name).write_text("")
    first = run([sys.executable, "-c", MAIN, str(clone)])
    second = run([sys.executable, "-c", MAIN, str(clone)])
    (clone / "requirements.txt").write_text("# another\n")
    third = run([sys.executable, "-c", MAIN, str(clone)])
    assert [ended.returncode for ended in (first, second, third)] == [0, 0, 0]
    assert "setup: done" in first.stdout
    assert second.stdout == ""
    assert "setup: done" in third.stdout


@pytest.mark.parametrize("version", ["(3, 10)", "(3, 14)"])
def test_another_python_is_refused_in_a_line(tmp_path, version):
    other = tmp_path / "python"
    other.write_text(f'#!/bin/sh\nexec {sys.executable} -c "import sys; sys.version_info = {version}; $2"\n')
    other.chmod(other.stat().st_mode | stat.S_IXUSR)
    ended = run(["make", "--no-print-directory", "demo", f"PYTHON={other}"])
    assert ended.returncode == 2
    said = [line for line in ended.stderr.splitlines() if not line.startswith("make: ***")]
    assert len(said) == 1, ended.stderr
    assert "Python 3.11, 3.12 or 3.13 is needed" in said[0]


def test_no_python_at_all_is_refused_in_a_line():
    ended = run(["make", "--no-print-directory", "test", "PYTHON=/no/such/python"])
    assert ended.returncode == 2
    assert "/no/such/python" in ended.stderr
    assert "Python 3.11, 3.12 or 3.13 is needed" in ended.stderr
