"""The function against the development stand-in for TensorFlow Serving, with a real SavedModel, on both wire forms."""

import json
import socket
import subprocess
import sys
import time
from pathlib import Path

import functions_framework
import numpy as np
import pytest
from pycocotools import mask as coco

from tests.support.backend import BOUNDARY
from tests.support.images import noise

ROOT = Path(__file__).parents[2]


@pytest.fixture(params=["false", "true"])
def http(request, base_path, monkeypatch):
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    flags = [f"--port={port}", "--model_name=shapes", f"--model_base_path={base_path}"]
    flags.append(f"--enable_serialization_as_tensor_content={request.param}")
    server = subprocess.Popen([sys.executable, "-m", "deploy.model_server", *flags], cwd=ROOT)
    monkeypatch.setenv("TF_SERVING_ADDRESS", f"localhost:{port}")
    http = functions_framework.create_app("segment", str(ROOT / "main.py")).test_client()
    end_s = time.monotonic() + 90
    while http.get("/ready").status_code != 200 and time.monotonic() < end_s and server.poll() is None:
        time.sleep(0.3)
    yield http
    sys.modules["main"].SERVICE.client.close()
    server.terminate()
    server.wait(20)


def test_a_real_model_answers(http):
    assert http.get("/model").json["contract"] == json.loads(BOUNDARY.to_json())
    answer = http.post("/", data=noise())
    assert answer.status_code == 200, answer.text
    (instance,) = answer.json["instances"]
    assert (instance["label"], instance["score"], instance["area"]) == ("circle", 0.5, 512)
    expected = np.zeros((64, 64), np.uint8, order="F")
    expected[8:24, 16:48] = 1
    assert instance["mask"]["counts"] == coco.encode(expected)["counts"].decode()
