"""The image as far as it shows without Docker: its rules, its pins, and its commands on the files that it copies."""

import contextlib
import http.client
import importlib.metadata
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from deploy.bundle import __main__ as bundle
from deploy.bundle import pins
from tests.deploy.container.dockerfile import DOCKERFILE, base_image, command, copied, healthcheck, named, settings
from tests.support.backend import Backend, serve
from tests.support.images import noise
from tests.support.processes import free_port

BIN = Path(sys.executable).parent
START_S = 60


def hadolint(path):
    flags = ["--disable-ignore-pragma", "--config=/dev/null"]
    return subprocess.run([BIN / "hadolint", *flags, path], capture_output=True, text=True, check=False)


def test_hadolint_finds_nothing_with_every_rule_in_force(tmp_path):
    assert hadolint(DOCKERFILE).stdout == ""
    text = DOCKERFILE.read_text(encoding="utf-8")
    worse = tmp_path / "Dockerfile"
    worse.write_text(text.replace(base_image(), "python").replace(" --no-cache-dir", ""), encoding="utf-8")
    assert {"DL3006", "DL3042"} <= set(re.findall(r"DL\d+", hadolint(worse).stdout))


def test_the_base_is_pinned_and_the_user_is_a_number_other_than_roots():
    assert re.fullmatch(r"python:3\.1[1-3]\.\d+-slim-bookworm", base_image())
    (user,) = named("USER")
    assert all(int(part) > 0 for part in user.split(":"))


@pytest.mark.parametrize("id_tokens", [False, True])
def test_what_the_bundle_pins_is_all_that_the_images_python_needs(id_tokens):
    full = re.match(r"python:([\d.]+)-", base_image())[1]
    python = {"python_full_version": full, "python_version": full.rpartition(".")[0]}
    pinned = [Requirement(line) for line in pins.slim(id_tokens)]
    needed = {
        canonicalize_name(need.name)
        for package in pinned
        for need in map(Requirement, importlib.metadata.requires(package.name) or [])
        if need.marker is None
        or any(need.marker.evaluate({**python, "extra": extra}) for extra in package.extras or {""})
    }
    assert needed <= {canonicalize_name(package.name) for package in pinned}


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    """Return a folder with what the image copies out of the bundle, in its places there."""
    folder = tmp_path_factory.mktemp("image")
    bundle.write(folder / "function", pins.slim())
    (folder / "app").mkdir()
    assert set(copied()) == {path.name for path in (folder / "function").iterdir()} - {bundle.MARK}
    for name, target in copied().items():
        source = folder / "function" / name
        (shutil.copytree if source.is_dir() else shutil.copy2)(source, folder / "app" / target)
    return folder / "app"


def environment(port, folder, **more):
    """Return the image's own, /tmp being ``folder``, and no home, as its user has none."""
    own = {name: value.replace("/tmp", str(folder)) for name, value in settings().items()}
    path = f"{BIN}:{os.environ['PATH']}"
    quiet = {"PYTHONDONTWRITEBYTECODE": "1", "TMPDIR": str(folder), "HOME": os.devnull}
    return {**own, "PORT": str(port), "PATH": path, **quiet, "no_proxy": "127.0.0.1", **more}


def healthy(app, env):
    return subprocess.run(healthcheck(), cwd=app, env=env, capture_output=True, check=False, timeout=30).returncode == 0


def test_its_command_answers_its_health_check_and_photographs_and_ends_when_it_is_told(app, tmp_path):
    port = free_port()
    before = sorted(app.rglob("*"))
    backend = Backend()
    backend.available = False  # which /ready minds: a container is not restarted because its model is still loading
    with serve(backend) as address, contextlib.ExitStack() as cleaning:
        env = environment(port, tmp_path, TF_SERVING_ADDRESS=address, http_proxy="http://127.0.0.1:9")
        assert not healthy(app, env)
        start = subprocess.Popen(command(), cwd=app, env=env, stderr=subprocess.PIPE, text=True)
        process = cleaning.enter_context(start)
        cleaning.callback(process.kill)
        end_s = time.monotonic() + START_S
        while not healthy(app, env):
            assert process.poll() is None
            assert time.monotonic() < end_s
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request("POST", "/", noise(kind="JPEG"))
        answer = json.loads(connection.getresponse().read())
        connection.close()
        assert [one["label"] for one in answer["instances"]] == ["square", "circle"]
        process.send_signal(getattr(signal, named("STOPSIGNAL")[0]))
        log = process.communicate(timeout=30)[1]
        assert process.returncode == 0
        assert not healthy(app, env)
    assert "[ERROR]" not in log
    assert sorted(app.rglob("*")) == before
