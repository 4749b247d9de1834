"""``make test-contract``: tests of the interface against a server that loads the scene as a model."""

import os
import re
import subprocess
import sys

import pytest

from tests.deploy.container.dockerfile import ROOT
from tests.http import scenes
from tests.support.processes import free_port

NAMES = ("TF_SERVING_ADDRESS", "MODEL_NAME", "PYTEST")
pytestmark = [
    pytest.mark.campaign,
    pytest.mark.parametrize("flags", [(), ("--campaign",)], ids=["gunicorn", "flask"]),  # that is what they select
]


def run(*command, **settings):
    inherited = {
        name: value for name, value in os.environ.items() if name not in NAMES and not name.startswith("PYTEST")
    }
    return subprocess.run(
        [sys.executable, "-m", *command, "-q", "-p", "no:cacheprovider"],
        cwd=ROOT,
        env={**inherited, **settings},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def test_formats_routes_and_images_are_the_same_against_a_served_model(flags):
    done = run("tests.http", *flags, "-k", "test_formats or test_web or test_images")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    told = re.search(r"against TensorFlow Serving on 127\.0\.0\.1:\d+, model (\w+): (\d+) deselected", done.stdout)
    assert told[1] == scenes.NAME
    assert int(told[2]) > 0
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) > 150


def test_the_tests_ask_the_server_that_the_environment_names(flags):
    nobody = free_port()
    address = f"127.0.0.1:{nobody}"
    only = ("tests/http/test_web.py", "-k", "test_routes")
    done = run("pytest", *only, *flags, TF_SERVING_ADDRESS=address, DEADLINE_S="1")
    assert done.returncode == 1
    assert "1 failed" in done.stdout
