"""The command in tests: as a process of its own or in this one, and models to give it."""

import subprocess
import sys
from pathlib import Path

import tensorflow as tf

from deploy.export.__main__ import main
from deploy.models.shapes import bundled

ROOT = Path(__file__).parents[3]
BUNDLED = "deploy.models.shapes.export"
BUILDER = ["--builder", bundled.BUILDER, "--weights", str(bundled.WEIGHTS)]


def run(*arguments, module="deploy.export", **options):
    command = [sys.executable, "-m", module, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, **options)


def save(folder, outputs, image=(tf.uint8, [1, None, None, 3]), names=("image",), signature="serving_default"):
    """Save a model of given inputs and outputs (name -> dtype, shape), all ones."""

    def serve(**inputs):
        return {
            name: tf.fill(shape, "one") if dtype == tf.string else tf.ones(shape, dtype)
            for name, (dtype, shape) in outputs.items()
        }

    specs = {name: tf.TensorSpec(image[1], image[0], name) for name in names}
    function = tf.function(serve).get_concrete_function(**specs)
    module = tf.Module()
    module.serve = function
    tf.saved_model.save(module, str(folder), {signature: function})
    return folder


DETECTION = {
    "detection_boxes": (tf.float32, [1, 5, 4]),
    "detection_classes": (tf.float32, [1, 5]),
    "detection_scores": (tf.float32, [1, 5]),
    "detection_masks": (tf.float32, [1, 5, 7, 7]),
    "num_detections": (tf.float32, [1]),
}
INFO = {"image_info": (tf.float32, [1, 4, 2])}


def refused_options(tmp_path, capsys, *options):
    """Return the one line that tells why a source is not exported; nothing is left of it."""
    before = sorted(tmp_path.rglob("*"))
    assert main(["--output", str(tmp_path / "out" / "model"), *options]) == 1
    assert sorted(tmp_path.rglob("*")) == before
    told = capsys.readouterr().err.strip()
    assert "Traceback" not in told
    line = told.splitlines()[-1]
    assert line.startswith("export: ")
    assert told.count("export: ") == 1
    return line


def refused(folder, tmp_path, capsys, *options):
    """Return the one line that tells why a SavedModel is not exported."""
    return refused_options(tmp_path, capsys, "--saved-model", str(folder), *options)
