"""A cloud that is a folder, and the scripts run against it with a gcloud on PATH that records every call."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deploy.gcloud import fake_gcloud

ROOT = Path(__file__).parents[3]
SCRIPTS = ROOT / "deploy/gcloud"
WHERE = ("--project=a-project", "--region=europe-west4")
READS = {"describe", "list", "get-iam-policy", "access"}


class Cloud:
    """The state behind the gcloud on PATH, and what the scripts did."""

    def __init__(self, folder):
        self.folder = folder
        (folder / "bin").mkdir(parents=True)
        (folder / "cloud.json").write_text('{"there": {"projects a-project": true}, "says": {}, "fails": {}}')
        self.program = folder / "bin/gcloud"
        self.program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I -S "{fake_gcloud.__file__}" "$@"\n')
        self.program.chmod(0o755)

    def run(self, script, *arguments, where=WHERE, **variables):
        """Return the finished process of ``deploy/gcloud/SCRIPT.sh arguments``."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("CLOUDSDK")}
        own = {"PATH": f"{self.program.parent}:{os.environ['PATH']}", "GCLOUD_STATE": str(self.folder)}
        return subprocess.run(
            [SCRIPTS / f"{script}.sh", *arguments, *where],
            env={**inherited, **own, "SEGMENT_RETRY_S": "0", **variables},
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def done(self, script, *arguments, **variables):
        """Run a script that has to succeed; return the arguments of each call that changes something."""
        before = len(self.changes())
        finished = self.run(script, *arguments, **variables)
        assert finished.returncode == 0, finished.stderr
        return self.changes()[before:]

    def refused(self, script, *arguments, **variables):
        """Run a script that has to refuse before it changes anything; return what it said."""
        before = self.changes()
        finished = self.run(script, *arguments, **variables)
        assert finished.returncode == 2, finished.stderr
        assert self.changes() == before
        return finished.stderr

    def calls(self):
        log = self.folder / "calls.jsonl"
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []

    def changes(self):
        return [call for call in self.calls() if fake_gcloud.parse(call)[0].split()[-1] not in READS]

    @property
    def state(self):
        return json.loads((self.folder / "cloud.json").read_text())

    def change(self, **things):
        """Change what there is behind the scripts' back."""
        (self.folder / "cloud.json").write_text(json.dumps({**self.state, **things}))


def calls(text, **names):
    """Return the arguments of each call in a text: a line a call, and indented lines belong to the one before."""
    lines = text.strip().replace("\n    ", " ").splitlines()
    return [[word.format(**names) for word in shlex.split(line)] for line in lines]


def option(call, name):
    (value,) = [word.split("=", 1)[1] for word in call if word.startswith(f"--{name}=")]
    return value


def deployment(made):
    (call,) = [call for call in made if "deploy" in call[:2]]
    return call


@pytest.fixture
def cloud(tmp_path):
    return Cloud(tmp_path / "a cloud")


@pytest.fixture
def model(tmp_path):
    """Return the option for a folder with two versions of a model; its name has a space."""
    for version in ("1", "2"):
        (tmp_path / "my models" / version).mkdir(parents=True)
        (tmp_path / "my models" / version / "saved_model.pb").write_text(f"version {version}")
    return f"--model={tmp_path / 'my models'}"


@pytest.fixture
def bundle(tmp_path):
    """Return the option for a folder that stands for a bundle; test_uploaded.py runs a real one."""
    (tmp_path / "a bundle").mkdir()
    (tmp_path / "a bundle/.segment-bundle").write_text("0123456789abcdef")
    return f"--source={tmp_path / 'a bundle'}"


@pytest.fixture
def keys(tmp_path):
    (tmp_path / "the keys.txt").write_text("first-key-0123, another-key")
    return tmp_path / "the keys.txt"


@pytest.fixture
def served(cloud):
    """Return a cloud with the model."""
    cloud.change(there={**cloud.state["there"], "run services tf-serving": True})
    return cloud
