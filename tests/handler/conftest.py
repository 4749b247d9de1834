"""A SavedModel small enough for any test: what tests/support/backend.py answers, from TensorFlow itself."""

import subprocess
import sys

import pytest

from tests.support.backend import INT8

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


@pytest.fixture(scope="session")
def base_path(tmp_path_factory):
    base = tmp_path_factory.mktemp("shapes")
    subprocess.run([sys.executable, "-c", SAVE, str(base / "1"), INT8.to_json()], check=True, capture_output=True)
    return base
