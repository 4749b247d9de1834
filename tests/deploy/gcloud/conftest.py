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


class Cloud:
    """The state behind the gcloud on PATH, and what the scripts did."""

    def __init__(self, folder):
        self.folder = folder
        for name in ("bin", "bucket", "secrets"):
            (folder / name).mkdir(parents=True)
        (folder / "cloud.json").write_text(json.dumps({"projects": {"a-project": True}}))
        program = folder / "bin/gcloud"
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I -S "{fake_gcloud.__file__}" "$@"\n')
        program.chmod(0o755)

    def run(self, script, *arguments, where=WHERE, **variables):
        """Return the finished process of ``deploy/gcloud/SCRIPT.sh arguments``."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("CLOUDSDK", "GCLOUD"))}
        path = f"{self.folder / 'bin'}:{os.environ['PATH']}"
        return subprocess.run(
            [str(SCRIPTS / f"{script}.sh"), *arguments, *where],
            env={**inherited, "PATH": path, "GCLOUD_STATE": str(self.folder), "SEGMENT_RETRY_S": "0", **variables},
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def done(self, script, *arguments, **variables):
        """Run a script that has to succeed; return what it changed: the arguments of each such call."""
        before = len(self.calls())
        finished = self.run(script, *arguments, **variables)
        assert finished.returncode == 0, finished.stderr
        return [call for call in self.calls()[before:] if not is_read(call)]

    def refused(self, script, *arguments, **options):
        """Run a script that has to refuse, having changed nothing; return what it said."""
        before, changes = self.snapshot(), len(self.calls())
        finished = self.run(script, *arguments, **options)
        assert finished.returncode == 2, finished.stderr
        assert self.snapshot() == before
        assert [call for call in self.calls()[changes:] if not is_read(call)] == []
        return finished.stderr

    def calls(self):
        log = self.folder / "calls.jsonl"
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []

    @property
    def state(self):
        return json.loads((self.folder / "cloud.json").read_text())

    def change(self, **things):
        """Change what there is behind the scripts' back."""
        (self.folder / "cloud.json").write_text(json.dumps({**self.state, **things}, sort_keys=True))

    def serving(self, name="segment"):
        """Return the rows of revision, percent, tag that have traffic."""
        service = self.state["run"][name]
        latest = next(one[0] for one in reversed(service["revisions"]) if one[2] == "True")
        return [[latest if to == "LATEST" else to, share, tag] for to, share, tag in service["traffic"] if share]

    def snapshot(self):
        files = [
            self.folder / "cloud.json",
            *(self.folder / "bucket").rglob("*"),
            *(self.folder / "secrets").rglob("*"),
        ]
        return {str(path): path.read_bytes() for path in files if path.is_file()}


def calls(text, **names):
    """Return the arguments of each call in a text: a line a call, and indented lines belong to the one before."""
    lines = text.format(project=WHERE[0], region=WHERE[1], **names).strip().replace("\n    ", " ").splitlines()
    return [shlex.split(line) for line in lines]


def is_read(call):
    command, _, _ = fake_gcloud.parse(call)
    return command.split()[-1] in fake_gcloud.READS


@pytest.fixture
def cloud(tmp_path):
    return Cloud(tmp_path / "a cloud")


@pytest.fixture
def model(tmp_path):
    """Return a folder with two versions of a model; its name has a space."""
    folder = tmp_path / "my models"
    for version in ("1", "2"):
        (folder / version / "variables").mkdir(parents=True)
        (folder / version / "saved_model.pb").write_text(f"version {version}")
    return folder


@pytest.fixture
def bundle(tmp_path):
    """Return a folder that stands for a bundle; test_function.py uploads a real one, once."""
    folder = tmp_path / "a bundle"
    folder.mkdir()
    (folder / ".segment-bundle").write_text("0123456789abcdef" * 4 + "\n")
    return folder


@pytest.fixture
def served(cloud, model):
    """Return a cloud where the model is deployed."""
    cloud.done("model", "--model", str(model))
    return cloud
