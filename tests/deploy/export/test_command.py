"""The command as a person runs it: what is wrong is named in one line, and nothing is left behind."""

import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from deploy.export.__main__ import main
from deploy.export.kinds import KINDS
from deploy.models.shapes import bundled
from tests.deploy.export import finders, savedmodels

ROOT = Path(__file__).parents[3]
BUNDLED = "deploy.models.shapes.export"
BUILDER = ["--builder", bundled.BUILDER, "--weights", str(bundled.WEIGHTS)]


def run(*arguments, module="deploy.export", **options):
    command = [sys.executable, "-m", module, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, **options)


def save(folder, outputs, image=(tf.uint8, [1, None, None, 3]), names=("image",), signature="serving_default"):
    """Save a model of given inputs and outputs (name -> dtype, shape), all ones."""

    def serve(**inputs):
        return {name: tf.ones(shape, dtype) for name, (dtype, shape) in outputs.items()}

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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"detection_masks": None},
            "must have outputs mrcnn_detection and mrcnn_mask, or detection_boxes, .*; got inputs image uint8",
        ),
        ({"detection_masks": (tf.float32, [1, 5, 7, 7, 3])}, "detection_masks must be of rank 4, got float32"),
        ({"detection_boxes": (tf.int32, [1, 5, 4])}, "detection_boxes must be of floating point, got int32"),
        ({"detection_classes": (tf.float32, [5])}, "detection_classes must be of rank 2"),
    ],
)
def test_outputs_that_fit_no_dialect(tmp_path, capsys, change, message):
    outputs = {name: spec for name, spec in {**DETECTION, **change}.items() if spec}
    assert re.search(message, refused(save(tmp_path / "source", outputs), tmp_path, capsys))


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ((tf.string, [None]), r"must be pixels, got image string \[any\], an encoded image or a tf.Example"),
        ((tf.uint8, [4, 512, 512, 3]), r"one image at a time, got uint8 \[4, 512, 512, 3\]"),
        ((tf.uint8, [None, None, 3]), r"must be \[1, H, W, 3\], got image uint8 \[any, any, 3\]"),
    ],
)
def test_images_that_fit_no_dialect(tmp_path, capsys, image, message):
    assert re.search(message, refused(save(tmp_path / "source", DETECTION, image), tmp_path, capsys))


def test_a_model_is_refused_before_it_is_loaded(tmp_path, capsys):
    save(tmp_path / "source", DETECTION, (tf.uint8, [4, 512, 512, 3]))
    shutil.rmtree(tmp_path / "source" / "variables")
    assert "one image at a time" in refused(tmp_path / "source", tmp_path, capsys)


def test_another_signature_is_named(tmp_path, capsys):
    pixels, encoded = finders.detection(), finders.detection(dtype=tf.uint16)
    finders.save(encoded, tmp_path / "source", pixels=pixels)
    assert "its signature pixels can be exported: --signature pixels" in refused(tmp_path / "source", tmp_path, capsys)
    options = ["--signature=pixels", "--output", str(tmp_path / "out")]
    assert main(["--saved-model", str(tmp_path / "source"), *options]) == 0


def test_not_a_saved_model(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert "a folder with a saved_model.pb" in refused(tmp_path / "empty", tmp_path, capsys)
    assert "No such file" in refused(tmp_path / "nothing", tmp_path, capsys)
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "saved_model.pb").write_text("no model")
    assert "must be a SavedModel, got 8 other bytes" in refused(tmp_path / "text", tmp_path, capsys)
    save(tmp_path / "broken", DETECTION)
    shutil.rmtree(tmp_path / "broken" / "variables")
    assert "must be one that TensorFlow loads" in refused(tmp_path / "broken", tmp_path, capsys)


def test_a_signature_the_model_does_not_have(tmp_path, capsys):
    save(tmp_path / "source", DETECTION, signature="predict")
    line = refused(tmp_path / "source", tmp_path, capsys)
    assert "--signature must be one of the model's, predict, got serving_default" in line
    options = ["--signature=predict", "--output", str(tmp_path / "out")]
    assert main(["--saved-model", str(tmp_path / "source"), *options]) == 0


def test_a_dialect_that_the_model_does_not_have(tmp_path, capsys):
    save(tmp_path / "source", {**DETECTION, **INFO})
    line = refused(tmp_path / "source", tmp_path, capsys, "--dialect=matterport")
    assert "--dialect matterport must fit the model, got inputs image" in line
    for dialect in ("object-detection", "model-garden"):  # with image_info it can be either: the option settles it
        options = ["--dialect", dialect, "--output", str(tmp_path / dialect)]
        assert main(["--saved-model", str(tmp_path / "source"), *options]) == 0


def test_a_model_of_two_dialects_needs_the_option(tmp_path, capsys):
    both = {**DETECTION, "mrcnn_detection": (tf.float32, [1, 5, 6]), "mrcnn_mask": (tf.float32, [1, 5, 7, 7, 4])}
    save(tmp_path / "source", both)
    line = refused(tmp_path / "source", tmp_path, capsys)
    assert (
        "must have one dialect, got matterport and object-detection: choose with --dialect; inputs image uint8" in line
    )
    options = ["--dialect=object-detection", "--output", str(tmp_path / "out")]
    assert main(["--saved-model", str(tmp_path / "source"), *options]) == 0
    line = refused(tmp_path / "source", tmp_path, capsys, "--dialect=matterport")
    assert "image must be float32 of rank 4, got uint8" in line


def test_boxes_in_pixels_are_not_taken_for_shares(tmp_path, capsys):
    found = savedmodels.detections(3, (7, 7), 0)
    savedmodels.save_object_detection(tmp_path / "source", (100 * found[0], *found[1:]), 3)
    assert "boxes must be shares of the image, 0..1, got up to" in refused(tmp_path / "source", tmp_path, capsys)


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


def test_a_model_that_cannot_take_its_own_warm_up(tmp_path, capsys):
    found = savedmodels.detections(3, (7, 7), 0)
    savedmodels.save_object_detection(tmp_path / "source", found, 3, highest=800)
    line = refused(tmp_path / "source", tmp_path, capsys)
    assert "must run on an image of 1024 x 1024, got: assertion failed: [too high]" in line
    options = ["--max-dim=800", "--output", str(tmp_path / "out")]
    assert main(["--saved-model", str(tmp_path / "source"), *options]) == 0


def test_a_graph_that_needs_a_gpu(tmp_path, capsys):
    def serve(image):
        channels_first = tf.transpose(tf.cast(image, tf.float32), [0, 3, 1, 2])
        pooled = tf.reduce_max(tf.nn.max_pool2d(channels_first, 2, 2, "VALID", data_format="NCHW"))
        found = {name: tf.ones(shape, dtype) for name, (dtype, shape) in DETECTION.items()}
        return {**found, "detection_scores": found["detection_scores"] * pooled / 255}

    module = tf.Module()
    module.serve = tf.function(serve, input_signature=[tf.TensorSpec([1, None, None, 3], tf.uint8, "image")])
    tf.saved_model.save(module, str(tmp_path / "source"), {"serving_default": module.serve})
    line = refused(tmp_path / "source", tmp_path, capsys)
    assert "NHWC" in line
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
from tests.deploy.export.test_command import DETECTION
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


@pytest.mark.parametrize(
    "change",
    [{"image": (tf.string, [None])}, {"options": ["--mean", "1", "2", "3"]}, {"outputs": {"boxes": (tf.float32, [1])}}],
)
def test_what_is_refused_is_not_loaded(tmp_path, capsys, monkeypatch, change):
    save(tmp_path / "source", change.get("outputs", DETECTION), change.get("image", (tf.uint8, [1, None, None, 3])))
    monkeypatch.setattr(tf.saved_model, "load", None)
    refused(tmp_path / "source", tmp_path, capsys, *change.get("options", []))


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


def test_classes_that_the_function_would_refuse(tmp_path, capsys):
    boxes, classes, scores, masks = savedmodels.detections(3, (7, 7), 0)
    savedmodels.save_object_detection(tmp_path / "source", (boxes, classes + 0.5, scores, masks), 3)
    assert "detection classes must be whole numbers" in refused(tmp_path / "source", tmp_path, capsys)


def test_a_graph_that_is_not_tagged_serve_alone(tmp_path, capsys):
    save(tmp_path / "source", DETECTION)
    path = tmp_path / "source" / "saved_model.pb"
    model = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    model.meta_graphs[0].meta_info_def.tags.append("tpu")
    path.write_bytes(model.SerializeToString())
    line = refused(tmp_path / "source", tmp_path, capsys)
    assert "must have a graph tagged serve alone, got ['serve, tpu']" in line


def test_a_matterport_model_of_two_images(tmp_path, capsys):
    outputs = {"mrcnn_detection": (tf.float32, [2, 5, 6]), "mrcnn_mask": (tf.float32, [2, 5, 7, 7, 4])}

    def serve(input_image, input_image_meta, input_anchors):
        return {name: tf.ones(shape, dtype) for name, (dtype, shape) in outputs.items()}

    specs = {"input_image": [2, None, None, 3], "input_image_meta": [2, 16], "input_anchors": [2, None, 4]}
    module = tf.Module()
    module.serve = tf.function(serve).get_concrete_function(
        **{name: tf.TensorSpec(shape, tf.float32, name) for name, shape in specs.items()}
    )
    tf.saved_model.save(module, str(tmp_path / "source"), {"serving_default": module.serve})
    assert "input_image must take one image at a time, got float32 [2," in refused(
        tmp_path / "source", tmp_path, capsys
    )


def test_a_full_keras_model_is_no_file_of_weights(tmp_path, capsys):
    (tmp_path / "model.keras").write_bytes(b"PK")
    line = refused_options(tmp_path, capsys, "--builder", bundled.BUILDER, "--weights", str(tmp_path / "model.keras"))
    assert "it must be a file of weights, .weights.h5 or .h5" in line


def test_more_inputs_than_the_image(tmp_path, capsys):
    save(tmp_path / "source", DETECTION, names=("image", "shape"))
    assert "must have one input, the image, got inputs image" in refused(tmp_path / "source", tmp_path, capsys)


def test_an_int8_export_is_no_source(tmp_path, capsys, exported):
    version = max(exported("int8-cast").glob("[0-9]*"), key=lambda path: int(path.name))
    line = refused(version, tmp_path, capsys)
    assert "input_image must be float32 of rank 4, got int8" in line
    assert "export from float32" in line


def test_matterports_options_for_another_model(tmp_path, capsys):
    save(tmp_path / "source", DETECTION)
    assert "--mean must come with a Matterport model" in refused(
        tmp_path / "source", tmp_path, capsys, "--mean", "1", "2", "3"
    )


def test_naive_casts_of_another_model(tmp_path, capsys):
    save(tmp_path / "source", DETECTION)
    assert main(["int8-cast", "--saved-model", str(tmp_path / "source"), "--output", str(tmp_path / "out")]) == 1
    assert "this recipe is for Matterport models with input_image of 3 channels" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_labels_of_the_wrong_count(tmp_path, capsys):
    (tmp_path / "labels.txt").write_text("one\ntwo\n")
    line = refused_options(tmp_path, capsys, *BUILDER, "--labels", str(tmp_path / "labels.txt"))
    assert "3 names, one for each class of the model but the background, got 2" in line


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--max-dim", "512"], "the source must be --saved-model, or --builder and --weights, got neither"),
        (["--builder", "a:b"], "--builder and --weights go together"),
        ([*BUILDER, "--saved-model", "x"], "must be --saved-model or --builder, got both"),
        ([*BUILDER, "--dialect", "model-garden"], "--signature and --dialect are for --saved-model"),
        (["--labels", "/"], "must be a text file"),
        (
            ["--saved-model", "x", "--resize-mode=crop"],
            "the mode of the model's inference config, square, pad64 or none",
        ),
        (["--saved-model", "x", "--mean", "1", "2"], "--mean must be 3 numbers, or one for all channels, got 2"),
    ],
)
def test_options_that_do_not_go_together(capsys, options, message):
    with pytest.raises(SystemExit) as ended:
        main(["int8", "--output", "out", *options])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_help_explains_each_kind():
    top = run("--help").stdout
    for kind in KINDS:
        assert kind in top
        assert "--saved-model" in run(kind, "--help").stdout
        assert "--saved-model" not in run(kind, "--help", module=BUNDLED).stdout


def test_a_folder_that_cannot_be_written(tmp_path, capsys):
    blocked = tmp_path / "file"
    blocked.write_text("mine")
    for folder in (str(blocked), "/proc/shapes"):  # in /proc not even root may write
        assert main(["--output", folder]) == 1
        last = capsys.readouterr().err.splitlines()[-1]
        assert last.startswith("export: --output must be a folder that can be written")
    assert blocked.read_text() == "mine"


@pytest.mark.campaign
def test_a_full_disk(tmp_path):
    """A file size limit stands for it: writes fail half-way all the same."""

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    done = run("--output", tmp_path / "out" / "shapes", module=BUNDLED, preexec_fn=limit)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("export: --output must be a folder that takes the model, got")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [pytest.param(signal.SIGINT, marks=pytest.mark.campaign), signal.SIGTERM])
def test_interrupted_half_way(tmp_path, number):
    command = [sys.executable, "-m", BUNDLED, "--output", str(tmp_path / "out")]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    end_s = time.monotonic() + 60
    while not list(tmp_path.glob("out/.export-*/model/*")) and time.monotonic() < end_s and process.poll() is None:
        time.sleep(0.005)
    os.kill(process.pid, number)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 1
    assert told.splitlines()[-1] == "export: interrupted; nothing is left behind"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.campaign
def test_two_exports_at_once_both_land(tmp_path):
    command = [sys.executable, "-m", BUNDLED, "float32", "--output", str(tmp_path)]
    both = [subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE) for _ in range(2)]
    for process in both:
        process.communicate(timeout=120)
        assert process.returncode == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "2"]


def test_weights_that_fit_only_in_part(tmp_path, capsys):
    with h5py.File(tmp_path / "part.h5", "w") as file:
        file.attrs["layer_names"] = np.array([b"features"])
    line = refused_options(tmp_path, capsys, "--builder", bundled.BUILDER, "--weights", str(tmp_path / "part.h5"))
    assert "it has no weights for" in line
