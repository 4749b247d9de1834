"""Models that are not exported: one line names what is wrong, and nothing is left behind."""

import re
import shutil

import h5py
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from deploy.export import dialects, graphs
from deploy.export.__main__ import main
from deploy.export.reading import Reading
from deploy.models.shapes import bundled
from tests.deploy.export import finders, savedmodels
from tests.deploy.export.command import BUILDER, DETECTION, INFO, refused, refused_options, save


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
        ({"detection_classes": (tf.string, [1, 5])}, "detection_classes must be numbers, got string"),
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


@pytest.mark.parametrize(
    "change",
    [{"image": (tf.string, [None])}, {"options": ["--mean", "1", "2", "3"]}, {"outputs": {"boxes": (tf.float32, [1])}}],
)
def test_what_is_refused_is_not_loaded(tmp_path, capsys, monkeypatch, change):
    save(tmp_path / "source", change.get("outputs", DETECTION), change.get("image", (tf.uint8, [1, None, None, 3])))
    monkeypatch.setattr(tf.saved_model, "load", None)
    refused(tmp_path / "source", tmp_path, capsys, *change.get("options", []))


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


MATTERPORT = {"mrcnn_detection": (tf.float32, [1, 5, 6]), "mrcnn_mask": (tf.float32, [1, 5, 7, 7, 4])}
NO_ANCHORS = {"image": (tf.float32, [1, None, None, 3]), "names": ["input_image"]}


@pytest.mark.parametrize(
    ("outputs", "options", "message"),
    [
        ({}, ["--scale=0..1"], "--scale 0..1 must come with the --mean of these pixels, 0 if nothing is subtracted"),
        (
            {},
            ["--anchor-ratios", "1", "2"],
            "--anchor-ratios must come with a model that takes its anchors, got one that has them",
        ),
        (
            {"mrcnn_mask": (tf.float32, [1, 5, 7, 7, 1])},
            [],
            "mrcnn_mask must have a mask for each class, got float32 [1, 5, 7, 7, 1], one for all",
        ),
    ],
)
def test_matterport_models_that_lack_something(tmp_path, capsys, outputs, options, message):
    save(tmp_path / "source", {**MATTERPORT, **outputs}, **NO_ANCHORS)
    assert message in refused(tmp_path / "source", tmp_path, capsys, *options)


def test_a_named_output_takes_the_place_of_one_with_its_name(tmp_path):
    outputs = {"boxes": MATTERPORT["mrcnn_detection"], "grids": MATTERPORT["mrcnn_mask"]}
    save(tmp_path / "source", {**outputs, "mrcnn_detection": (tf.int64, [5])}, **NO_ANCHORS)
    graph = graphs.from_saved_model(tmp_path / "source", "serving_default")
    dialect, renamed = dialects.recognise(graph, None, Reading(detections="boxes", masks="grids"))
    assert dialect == "matterport"
    assert renamed.outputs["mrcnn_detection"].dtype == tf.float32
    answer = renamed.call({"input_image": tf.zeros([1, 64, 64, 3])})
    assert answer["mrcnn_detection"].shape == (1, 5, 6)
    assert set(answer) == {"mrcnn_detection", "mrcnn_mask"}


def test_naive_casts_of_another_model(tmp_path, capsys):
    save(tmp_path / "source", DETECTION)
    assert main(["int8-cast", "--saved-model", str(tmp_path / "source"), "--output", str(tmp_path / "out")]) == 1
    assert "this recipe is for Matterport models with input_image of 3 channels" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_labels_of_the_wrong_count(tmp_path, capsys):
    (tmp_path / "labels.txt").write_text("one\ntwo\n")
    line = refused_options(tmp_path, capsys, *BUILDER, "--labels", str(tmp_path / "labels.txt"))
    assert "3 names, one for each class of the model but the background, got 2" in line


def test_weights_that_fit_only_in_part(tmp_path, capsys):
    with h5py.File(tmp_path / "part.h5", "w") as file:
        file.attrs["layer_names"] = np.array([b"features"])
    line = refused_options(tmp_path, capsys, "--builder", bundled.BUILDER, "--weights", str(tmp_path / "part.h5"))
    assert "it has no weights for" in line


def test_a_model_that_cannot_take_its_own_warm_up(tmp_path, capsys):
    found = savedmodels.detections(3, (7, 7), 0)
    savedmodels.save_object_detection(tmp_path / "source", found, 3, highest=800)
    line = refused(tmp_path / "source", tmp_path, capsys)
    assert "must run on an image of 1024 x 1024, got: assertion failed: [too high]" in line
    options = ["--max-dim=800", "--output", str(tmp_path / "out")]
    assert main(["--saved-model", str(tmp_path / "source"), *options]) == 0
