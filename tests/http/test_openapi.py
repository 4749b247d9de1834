"""The document describes what the function does: schemathesis makes requests from it and checks every answer."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from handler.options import Options
from tests.http.client import ok, problem
from tests.http.service import KEYS
from tests.support import counts

ROOT = Path(__file__).parents[2]
EXAMPLES = {"gunicorn": counts.pick(20, 2200), "flask": 100}


def schemathesis(function, folder, count, *flags):
    """Return how many requests were made; fails with the report where a check does."""
    command = [
        sys.executable,
        "-m",
        "schemathesis.cli",
        "run",
        f"{function.url}/openapi.json",
        f"--max-examples={count}",
    ]
    done = subprocess.run(
        [*command, "--continue-on-failure", "--seed=1", "--no-color", *flags],
        env={**os.environ, "SCHEMATHESIS_HOOKS": "tests.http.schemathesis_hooks", "PYTHONPATH": str(ROOT)},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    return int(re.search(r"\d+ generated, (\d+) passed", done.stdout)[1])


@pytest.mark.counted
def test_no_check_fails(function, request, tmp_path):
    server = request.node.callspec.params["started"]
    assert schemathesis(function, tmp_path, EXAMPLES[server]) >= EXAMPLES[server]


@pytest.mark.campaign
def test_no_check_fails_where_keys_are_asked_for(locked, tmp_path):
    assert schemathesis(locked, tmp_path, 100, f"--header=X-API-Key: {KEYS[0]}") >= 100


@pytest.mark.campaign
@pytest.mark.scripted
def test_the_checks_can_fail(function, tmp_path):
    function.backend.outputs["mrcnn_mask"] = function.backend.outputs["mrcnn_mask"][:, :1]
    with pytest.raises(AssertionError, match="Server error"):
        schemathesis(function, tmp_path, 20)


def test_the_document_names_everything(function):
    document = ok(function.get("/openapi.json"))
    assert document["openapi"].startswith("3.1.")
    assert set(document["paths"]) == {"/", "/health", "/ready", "/model", "/openapi.json"}
    post = document["paths"]["/"]["post"]
    assert [option["name"] for option in post["parameters"]] == list(Options.__struct_fields__)
    assert set(post["requestBody"]["content"]) == {
        *("image/jpeg", "image/png", "image/webp", "application/octet-stream"),
        *("multipart/form-data", "application/json"),
    }
    assert set(post["responses"]) == {"200", "400", "408", "413", "415", "500", "502", "503", "504"}
    schemas = document["components"]["schemas"]
    assert {"Instances", "CocoResult", "CvatMask", "Roboflow", "Problem", "ModelContract"} <= set(schemas)
    form = post["requestBody"]["content"]["multipart/form-data"]["schema"]["properties"]
    body = schemas["JsonRequest"]["properties"]
    assert set(form) == set(body) == {"image", *Options.__struct_fields__}
    assert body["threshold"] == {**body["threshold"], "minimum": 0, "maximum": 1, "default": 0.0}
    assert "securitySchemes" not in document["components"]


def test_a_profile_for_generators_of_clients(function):
    document = ok(function.get("/openapi.json?profile=client"))
    (body,) = document["paths"]["/"]["post"]["requestBody"]["content"]
    assert body == "application/octet-stream"
    assert "anyOf" not in document["paths"]["/"]["post"]["responses"]["200"]["content"]["application/json"]["schema"]
    detail = problem(function.get("/openapi.json?profile=other"), 400)
    assert detail == "profile must be client, or left out, got 'other'"


def test_keys_are_described_where_they_are_asked_for(locked):
    document = ok(locked.get("/openapi.json"))
    assert document["components"]["securitySchemes"] == {"key": {"type": "apiKey", "in": "header", "name": "X-API-Key"}}
    assert document["paths"]["/"]["post"]["security"] == [{"key": []}]
    assert "401" in document["paths"]["/"]["post"]["responses"]
    assert "security" not in document["paths"]["/health"]["get"]
