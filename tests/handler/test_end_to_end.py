"""The function against the development stand-in for TensorFlow Serving, with a real SavedModel, on both wire forms."""

import json
import sys

import functions_framework
import numpy as np
import pytest
from pycocotools import mask as coco

from tests.support.backend import INT8
from tests.support.images import noise
from tests.support.processes import ROOT, StandIn


@pytest.fixture(params=["false", "true"])
def http(request, base_path, monkeypatch, tmp_path):
    flags = ["--model_name=shapes", f"--model_base_path={base_path}"]
    flags.append(f"--enable_serialization_as_tensor_content={request.param}")
    with StandIn(*flags, log=tmp_path / "stand-in.log") as server:
        monkeypatch.setenv("TF_SERVING_ADDRESS", f"{server.host}:{server.port}")
        http = functions_framework.create_app("segment", str(ROOT / "main.py")).test_client()
        yield http
        sys.modules["main"].SERVICE.client.close()


def test_a_real_model_answers(http):
    assert http.get("/model").json["contract"] == json.loads(INT8.to_json())
    answer = http.post("/", data=noise())
    assert answer.status_code == 200, answer.text
    (instance,) = answer.json["instances"]
    assert (instance["label"], instance["score"], instance["area"]) == ("circle", 0.5, 512)
    expected = np.zeros((64, 64), np.uint8, order="F")
    expected[8:24, 16:48] = 1
    assert instance["mask"]["counts"] == coco.encode(expected)["counts"].decode()
