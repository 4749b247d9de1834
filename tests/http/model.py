"""The scene as a model: ``python -m tests.http.model OUTPUT`` writes OUTPUT/1 for any TensorFlow Serving.

Whatever image comes, the answer is the scene, as the scripted backend gives it; only a picture of black and white alone
is answered with the box around what is black, so that the tests of images show whether the pixels arrive.
"""

import argparse
import shutil
import tempfile
from pathlib import Path

import tensorflow as tf

from deploy.export import photograph
from handler.model.contract import CONTRACT_OUTPUT, CONTRACT_QUERY, CONTRACT_SIGNATURE
from handler.model.mold import PAD_MULTIPLE
from tests.http import scenes

BLACK_AND_WHITE = 32  # mean distance from 0 or 255: the corpus is within 1, photographs are beyond 80


@tf.function(input_signature=[tf.TensorSpec([1, None, None, 3], tf.int8, scenes.CONTRACT.image.name)])
def serve(input_image):
    pixels = tf.reduce_mean(tf.cast(input_image[0], tf.float32), -1) - scenes.CONTRACT.image.zero_point
    dark = pixels < 128
    drawn = tf.reduce_mean(tf.minimum(pixels, 255 - pixels)) < BLACK_AND_WHITE
    detections, masks = tf.cond(drawn & tf.reduce_any(dark), lambda: _block(dark), _scene)
    return {scenes.CONTRACT.detections.name: detections, scenes.CONTRACT.masks.name: masks}


@tf.function(
    input_signature=[
        tf.TensorSpec([None], tf.string, scenes.JPEG.image),
        tf.TensorSpec([None], tf.int32, scenes.JPEG.orientation),
    ]
)
def serve_jpeg(image_jpeg, orientation):
    return serve(photograph.codes(image_jpeg[0], orientation[0], scenes.CONTRACT.resize)[None])


@tf.function(input_signature=[tf.TensorSpec([None], tf.int8, CONTRACT_QUERY)])
def contract(query):
    return {CONTRACT_OUTPUT: tf.fill(tf.shape(query), scenes.CONTRACT.to_json())}


def _scene():
    outputs = scenes.outputs()
    return tuple(tf.constant(outputs[part.name]) for part in (scenes.CONTRACT.detections, scenes.CONTRACT.masks))


def _block(dark):
    """Return one object that fills the box around what is dark, bool [h, w], normalised to the padded frame."""
    size_hw = tf.shape(dark, tf.int64)
    frame_hw = (size_hw + PAD_MULTIPLE - 1) // PAD_MULTIPLE * PAD_MULTIPLE
    rows, columns = (tf.where(tf.reduce_any(dark, axis))[:, 0] for axis in (1, 0))
    corners = tf.stack([[rows[0], columns[0]], [rows[-1], columns[-1]]])  # Matterport's: 1 is taken off the second
    box = tf.reshape((corners + (frame_hw - size_hw) // 2) / (frame_hw - 1), [4])
    row = tf.concat([tf.cast(box, tf.float32), [1.0, 0.9]], 0)
    return tf.stack([row, tf.zeros(6)])[None], tf.fill([1, 2, scenes.GRID, scenes.GRID], tf.constant(127, tf.int8))


def write(base):
    """Write the model's only version under ``base``, whole, in place of an earlier one; return its folder."""
    base.mkdir(parents=True, exist_ok=True)
    module = tf.Module()
    module.functions = {
        "serving_default": serve,
        scenes.JPEG.signature: serve_jpeg,
        CONTRACT_SIGNATURE: contract,
    }
    with tempfile.TemporaryDirectory(dir=base, prefix=".scene-") as work:
        tf.saved_model.save(module, f"{work}/scene", dict(module.functions))
        version = base / str(scenes.VERSION)
        shutil.rmtree(version, ignore_errors=True)
        return Path(work, "scene").rename(version)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.http.model", description=__doc__)
    parser.add_argument("output", metavar="OUTPUT", type=Path, help="folder to write the version folder 1 into")
    print(write(parser.parse_args().output))  # noqa: T201 - the answer of a command
