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

from tests.handler.backend import BOUNDARY
from tests.test_main import png

ROOT = Path(__file__).parents[2]
SAVE = """
import sys, tensorflow as tf
class Model(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([1, None, None, 3], tf.int8, name="input_image")])
    def serve(self, input_image):
        brightest = tf.reduce_max(tf.cast(input_image, tf.float32))
        row = tf.stack([8 / 63, 16 / 63, 23 / 63, 47 / 63, 1.0, (brightest + 128) / 510])
        masks = tf.cast(tf.fill([1, 2, 4, 4], -3), tf.int8)
        masks = tf.concat([tf.cast(tf.fill([1, 1, 4, 4], 127), tf.int8), masks[:, 1:]], axis=1)
        return {"mrcnn_detection": tf.stack([row, tf.zeros(6)])[None], "mrcnn_mask": masks}
    @tf.function(input_signature=[tf.TensorSpec([None], tf.int8, name="query")])
    def state(self, query):
        return {"contract": tf.fill(tf.shape(query), tf.constant(sys.argv[2]))}
model = Model()
tf.saved_model.save(model, sys.argv[1], {"serving_default": model.serve, "segment_contract": model.state})
"""


@pytest.fixture(scope="module")
def base_path(tmp_path_factory):
    base = tmp_path_factory.mktemp("shapes")
    subprocess.run([sys.executable, "-c", SAVE, str(base / "1"), BOUNDARY.to_json()], check=True, capture_output=True)
    return base


@pytest.fixture(params=["false", "true"])
def http(request, base_path, monkeypatch):
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    flags = [f"--port={port}", "--model_name=shapes", f"--model_base_path={base_path}"]
    flags.append(f"--enable_serialization_as_tensor_content={request.param}")
    server = subprocess.Popen([sys.executable, "-m", "deploy.local.model_server", *flags], cwd=ROOT)
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
    answer = http.post("/", data=png())
    assert answer.status_code == 200, answer.text
    (instance,) = answer.json["instances"]
    assert (instance["label"], instance["score"], instance["area"]) == ("circle", 0.5, 512)
    expected = np.zeros((64, 64), np.uint8, order="F")
    expected[8:24, 16:48] = 1
    assert instance["mask"]["counts"] == coco.encode(expected)["counts"].decode()
