"""The package that holds the networks: it is downloaded once, and an error is a line."""

import subprocess
import sys

import pytest

from deploy.models.people import wheel
from deploy.tools.processes import ROOT, RunError
from tests.support.processes import free_port


@pytest.fixture
def offline(monkeypatch):
    """Give pip an index where nothing listens."""
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{free_port()}/simple")
    for name in ("PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_NO_INDEX"):
        monkeypatch.delenv(name, raising=False)


def test_without_a_network_it_is_told_in_a_line(offline, tmp_path):
    with pytest.raises(RunError, match=r"^pip must download mediapipe==0.10.21, got ERROR: .*; is PyPI in reach\?$"):
        wheel.networks(tmp_path)


def test_another_file_of_its_name_is_not_taken(offline, tmp_path):
    (tmp_path / wheel.NAME).write_bytes(b"another")
    with pytest.raises(RunError, match="pip must download"):
        wheel.networks(tmp_path)


@pytest.mark.parametrize("module", ["demo", "serve"])
def test_a_model_of_another_name_is_told_with_the_known_ones(module):
    command = [sys.executable, "-m", f"deploy.local.{module}", "--model=cats"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2
    assert "--model: invalid choice: 'cats' (choose from" in ended.stderr
    for name in ("shapes", "people"):
        assert name in ended.stderr.splitlines()[-1]
