"""Code that a model brings along: its builder, and ops that TensorFlow does not have."""

import os
import re
import subprocess
import sys

import keras
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from deploy.export.__main__ import main
from deploy.export.graphs import ExportError, from_keras
from deploy.models.shapes import bundled
from tests.deploy.export.command import DETECTION, ROOT, refused, run, save


def test_a_model_that_calls_python_is_refused(tmp_path, capsys):
    """It would run here, and in no server."""

    def serve(image):
        brightness = tf.py_function(lambda pixels: tf.reduce_mean(tf.cast(pixels, tf.float32)), [image], tf.float32)
        found = {name: tf.ones(shape, dtype) for name, (dtype, shape) in DETECTION.items()}
        return {**found, "detection_scores": found["detection_scores"] * tf.reshape(brightness, [1, 1]) / 255}

    module = tf.Module()
    module.serve = tf.function(serve, input_signature=[tf.TensorSpec([1, None, None, 3], tf.uint8, "image")])
    tf.saved_model.save(module, str(tmp_path / "source"), {"serving_default": module.serve})
    assert "must run without Python, got EagerPyFunc" in refused(tmp_path / "source", tmp_path, capsys)


def test_a_graph_that_needs_a_gpu(tmp_path, capsys):
    def serve(image):
        steps, state = tf.cast(image[:, :1, 0], tf.float32), tf.zeros([1, 1, 4])
        weights = tf.zeros([3 * 4 * (3 + 4 + 2)])
        pooled = tf.reduce_max(
            tf.raw_ops.CudnnRNN(input=steps, input_h=state, input_c=0.0, params=weights, rnn_mode="gru")[0]
        )
        found = {name: tf.ones(shape, dtype) for name, (dtype, shape) in DETECTION.items()}
        return {**found, "detection_scores": found["detection_scores"] * pooled / 255}

    module = tf.Module()
    module.serve = tf.function(serve, input_signature=[tf.TensorSpec([1, None, None, 3], tf.uint8, "image")])
    tf.saved_model.save(module, str(tmp_path / "source"), {"serving_default": module.serve})
    line = refused(tmp_path / "source", tmp_path, capsys)
    assert "CudnnRNN" in line
    assert line.endswith("(the graph needs a GPU: export on a machine that has one)")


def rename_an_op(folder, name):
    """Give one op of a saved model a name that TensorFlow does not know."""
    path = folder / "saved_model.pb"
    model = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    function = model.meta_graphs[0].graph_def.library.function[0]
    next(node for node in function.node_def if node.op == "Identity").op = name
    path.write_bytes(model.SerializeToString())


def test_an_op_that_is_not_registered(tmp_path, capsys):
    save(tmp_path / "source", DETECTION)
    rename_an_op(tmp_path / "source", "Mine>DecodeThing")
    line = refused(tmp_path / "source", tmp_path, capsys)
    assert "must be registered in TensorFlow, got Mine>DecodeThing: give the library that has them with" in line
    assert "--op-library; the server needs it, too" in line


def test_a_file_that_is_no_library_of_ops(tmp_path, capsys):
    save(tmp_path / "source", DETECTION)
    (tmp_path / "text.so").write_text("no library")
    line = refused(tmp_path / "source", tmp_path, capsys, "--op-library", str(tmp_path / "text.so"))
    assert "--op-library must be a library of ops for this TensorFlow, got" in line
    assert "text.so" in line


OPS = """
#include "tensorflow/core/framework/common_shape_fns.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/shape_inference.h"
using namespace tensorflow;
REGISTER_OP("Mine>Half").Input("x: float").Output("y: float").SetShapeFn(shape_inference::UnchangedShape);
class Half : public OpKernel {
 public:
  explicit Half(OpKernelConstruction* context) : OpKernel(context) {}
  void Compute(OpKernelContext* context) override {
    Tensor* y = nullptr;
    OP_REQUIRES_OK(context, context->allocate_output(0, context->input(0).shape(), &y));
    y->flat<float>() = context->input(0).flat<float>() * 0.5f;
  }
};
REGISTER_KERNEL_BUILDER(Name("Mine>Half").Device(DEVICE_CPU), Half);
"""
SAVE_WITH_OPS = """
import sys, tensorflow as tf
from tests.deploy.export.command import DETECTION
half = tf.load_op_library(sys.argv[1]).mine_half
@tf.function(input_signature=[tf.TensorSpec([1, None, None, 3], tf.uint8, "image")])
def serve(image):
    found = {name: tf.ones(shape, dtype) for name, (dtype, shape) in DETECTION.items()}
    return {**found, "detection_scores": half(x=found["detection_scores"])}
module = tf.Module()
module.serve = serve
tf.saved_model.save(module, sys.argv[2], {"serving_default": serve})
"""


@pytest.mark.campaign
def test_a_library_of_ops_of_ones_own(tmp_path):
    """Another process saves the model: the ops stay unknown to this one until the exporter loads them."""
    (tmp_path / "ops.cc").write_text(OPS)
    flags = [*tf.sysconfig.get_compile_flags(), *tf.sysconfig.get_link_flags()]
    library, source = tmp_path / "ops.so", tmp_path / "source"
    command = ["g++", "-shared", "-fPIC", "-O1", str(tmp_path / "ops.cc"), "-o", str(library), *flags]
    subprocess.run(command, check=True, capture_output=True)
    subprocess.run([sys.executable, "-c", SAVE_WITH_OPS, str(library), str(source)], cwd=ROOT, check=True)
    done = run("--saved-model", source, "--output", tmp_path / "out")
    assert done.stderr.splitlines()[-1].startswith(
        "export: the ops of the model must be registered in TensorFlow, got Mine>Half"
    )
    done = run("--saved-model", source, "--output", tmp_path / "out", "--op-library", library)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(tmp_path / "out" / "1")


BUILDERS = {
    "import keras.engine as engine": (
        r"ModuleNotFoundError: No module named 'keras.engine' \(mine.py, line 1\); it is written for an older Keras: "
        "save a SavedModel where it runs, and give that as --saved-model"
    ),
    "import tensorflow as tf\ntf.ConfigProto()": "has no attribute 'ConfigProto' .*line 2.*older Keras",
    "def build(): raise RuntimeError('no such network')": (
        r"must return a Keras model, got from mine:build RuntimeError: no such network \(mine.py, line 1\)"
    ),
    "def build(:": r"mine:build: SyntaxError: invalid syntax \(mine.py, line 1\)",
    "def build(): return 1": "must return a Keras model, got int from mine:build",
    "": "mine:build: AttributeError: module 'mine' has no attribute 'build'",
}


@pytest.mark.parametrize("code", BUILDERS)
def test_a_builder_that_fails(tmp_path, monkeypatch, capsys, code):
    (tmp_path / "mine.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    weights = ["--weights", str(bundled.WEIGHTS)]
    assert main(["--output", str(tmp_path / "out"), "--builder", "mine:build", *weights]) == 1
    told = capsys.readouterr().err
    assert "Traceback" not in told
    line = told.splitlines()[-1]
    assert line.startswith("export: --builder must ")
    assert re.search(BUILDERS[code], line), line


def test_a_model_without_the_tensors_of_its_layers():
    class Network(keras.Model):
        def call(self, image):
            return image

    with pytest.raises(ExportError, match=r"must return a functional model .*, its outputs a dict or a flat list, got"):
        from_keras(Network(), "mine")


def test_outputs_of_one_name():
    image = keras.Input((8, 8, 3), 1, name="image")
    parts = keras.layers.Lambda(lambda pixels: [pixels, 2 * pixels], name="both")(image)
    with pytest.raises(ExportError, match="must have names of their own, got both, both: return a dict of outputs"):
        from_keras(keras.Model(image, parts), "mine")


def test_a_builder_that_switches_eager_execution_off(tmp_path):
    """It does so for a whole process, so it gets one of its own."""
    (tmp_path / "mine.py").write_text(
        "import tensorflow as tf\ntf.compat.v1.disable_eager_execution()\n\ndef build():\n    return None\n"
    )
    options = ["--output", tmp_path / "out", "--builder", "mine:build", "--weights", bundled.WEIGHTS]
    done = run(*options, env={**os.environ, "PYTHONPATH": str(tmp_path)})
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    expected = "export: --builder must leave eager execution on, got mine:build, which switches it off: remove its "
    assert done.stderr.splitlines()[-1] == f"{expected}disable_eager_execution() or disable_v2_behavior()"
