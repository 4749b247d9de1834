"""Exports of the bundled model, served by the stand-in and asked through the function's own client."""

import dataclasses
import io
import shutil
from pathlib import Path

import keras
import msgspec
import numpy as np
import pytest
import skimage.data
import tensorflow as tf
from PIL import Image
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

from deploy.export import signatures, write
from deploy.export.__main__ import main
from deploy.export.graphs import ExportError, from_builder, from_keras
from deploy.export.report.segment import encode_jpeg
from deploy.export.source import of_graph
from deploy.export.trial import codes_of
from deploy.model_server.batching import Parameters
from deploy.model_server.servable import Servable
from deploy.models.shapes import bundled, dataset, export, fidelity
from handler.image.decode import TURNS, Limits, Photo, decode_image
from handler.model import mold, quantize
from handler.model.contract import JpegInput, ModelContract
from tests.support import counts

SCENES = counts.pick(8, 40)
ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def source():
    return export.source()


@pytest.fixture(scope="module")
def figures(source, exported):
    scenes = dataset.draw(dataset.HELD_OUT_SEED, SCENES)
    bases = {kind: exported(kind) for kind in ("int8-cast", "int8")}
    return fidelity.against_float32(fidelity.segment_all(source, scenes.images, bases))


@pytest.mark.counted
@pytest.mark.parametrize("encoding", ["proto fields", "tensor_content"])
def test_int8_gives_the_masks_of_float32(figures, encoding):
    row = figures[f"int8, {encoding}"]
    assert row.instances > 5 * SCENES
    assert (row.lost, row.extra) == (0, 0)
    assert row.iou_mean >= 0.999
    assert row.iou_min_large >= 0.98
    assert row.box_difference <= 1e-5
    assert row.score_difference <= 1e-5


@pytest.mark.counted
@pytest.mark.parametrize("encoding", ["proto fields", "tensor_content"])
def test_naive_casts_are_recovered(figures, encoding):
    row = figures[f"int8-cast, {encoding}"]
    assert row.iou_mean >= 0.97
    assert row.lost <= 0.05 * row.instances


def test_int8_inputs_and_contract(exported):
    (folder,) = exported("int8").glob("[0-9]*")
    loaded = tf.saved_model.load(str(folder))
    query = tf.constant([1, 2, 3], tf.int8)
    texts = loaded.signatures["segment_contract"](query=query)["contract"].numpy()
    assert len(texts) == 3
    contract = ModelContract.from_json(texts[0])
    assert contract.labels == {1: "circle", 2: "square", 3: "triangle"}
    assert contract.resize == bundled.SETTINGS.resize
    image = {"input_image": (tf.int8, [None, None, None, 3])}
    assert inputs_of(loaded, "serving_default") == image
    assert inputs_of(loaded, contract.signature) == {**image, "image_size": (tf.int32, [None, 2])}
    assert contract.image.size_name == "image_size"
    assert isinstance(contract.jpeg, JpegInput)
    for name in ("segment_jpeg", contract.jpeg.signature):
        assert inputs_of(loaded, name) == {"image_jpeg": (tf.string, [None]), "orientation": (tf.int32, [None])}
    assert (contract.schema, contract.jpeg.image, contract.jpeg.orientation) == (3, "image_jpeg", "orientation")


def inputs_of(loaded, name):
    specs = loaded.signatures[name].structured_input_signature[1]
    return {name: (spec.dtype, list(spec.shape)) for name, spec in specs.items()}


def test_a_jpeg_is_answered_as_its_int8_tensor_alone_and_among_others(exported):
    """To the last bit, as the session of TensorFlow Serving runs both."""
    (folder,) = exported("int8").glob("[0-9]*")
    servable = Servable.load(folder)

    def ask(signature, **inputs):
        found = servable.signatures[signature]
        fetches = [found.outputs[name].name for name in ("mrcnn_detection", "mrcnn_mask")]
        return servable.run({found.inputs[name].name: array for name, array in inputs.items()}, fetches)

    jpegs, alone = [], []
    for width, height, orientation in ((384, 303, 1), (257, 401, 6), (600, 474, 3)):
        photo = Image.fromarray(skimage.data.coins()).convert("RGB").resize((width, height))
        jpegs.append(encode_jpeg(np.asarray(photo)))
        decoded = decode_image(jpegs[-1], Limits())
        turned = msgspec.structs.replace(
            decoded, turn=TURNS.get(orientation), size_hw=(width, height) if orientation == 6 else (height, width)
        )
        codes = codes_of(mold.mold(turned, bundled.SETTINGS.resize, padded=False)[0])
        alone.append(ask("serving_default", input_image=codes[None]))
        got = ask(
            "segment_jpeg",
            image_jpeg=np.array(jpegs[-1:], object),
            orientation=np.array([orientation], np.int32),
        )
        assert (alone[-1][0][0, :, 4] > 0).sum() > 5
        assert all(map(np.array_equal, got, alone[-1]))
    batch = ask("segment_jpeg", image_jpeg=np.array(jpegs, object), orientation=np.array([1, 6, 3], np.int32))
    for place, one in enumerate(alone):
        assert all(np.array_equal(outputs[place], own[0]) for outputs, own in zip(batch, one, strict=True))


def test_an_export_for_an_older_function(source):
    """Its contract has no field that such a function does not know."""
    exported = signatures.int8(source, jpeg=False, image_size=False)
    assert not any("jpeg" in name for name in exported.functions)
    assert list(exported.warm_up) == [name for name in exported.functions if name.startswith("serving_default_")]
    assert next(iter(exported.warm_up.values())).keys() == {"input_image"}
    oldest = signatures.int8_contract(source, jpeg=False, image_size=False)
    assert "jpeg" not in oldest.to_json()
    assert "size_name" not in oldest.to_json()
    assert oldest.schema == 1
    assert signatures.int8_contract(source, image_size=False).schema == 2


def test_each_signature_has_a_record_to_warm_up(exported):
    (folder,) = exported("int8").glob("[0-9]*")
    path = folder / "assets.extra" / "tf_serving_warmup_requests"
    assert path.stat().st_size < 6 << 20
    requests = [
        PredictionLog.FromString(record.numpy()).predict_log.request for record in tf.data.TFRecordDataset(str(path))
    ]
    assert [sorted(request.inputs) for request in requests] == [
        ["image_size", "input_image"],
        ["image_jpeg", "orientation"],
    ]
    (jpeg,) = requests[1].inputs["image_jpeg"].string_val
    assert Image.open(io.BytesIO(jpeg)).size == (1024, 1024)
    names = [request.model_spec.signature_name.rpartition("_") for request in requests]
    assert [name for name, _, _ in names] == ["serving_default", "segment_jpeg"]
    assert len({fingerprint for _, _, fingerprint in names}) == 1
    parameters = Parameters(1, 0, 100, allowed_batch_sizes=(1,), pad_variable_length_inputs=True)
    assert Parameters.from_file(folder / "assets.extra" / "batching_parameters.txt") == parameters


def test_a_contract_names_its_signature(source):
    """So that a server with another contract refuses, even if version, types and shapes are the same."""

    def own(source):
        functions = set(signatures.int8(source).functions)
        return functions - {"serving_default", "segment_jpeg", "segment_contract"}

    other = dataclasses.replace(source, labels={1: "ring"})
    assert own(source) == own(source)
    assert len(own(source)) == 2
    assert not own(source) & own(other)


def test_int8_rows_equal_the_source_run_in_keras(source):
    """The oracle is Keras itself, on inputs made by numpy."""
    image = dataset.draw(dataset.HELD_OUT_SEED + 5, 1).images[0][:150, :170]
    molded, frame = mold.mold(Photo.of(Image.fromarray(image)), bundled.SETTINGS.resize, padded=True)
    inputs = {
        "input_image": (molded.astype(np.float32) - np.array(bundled.SETTINGS.mean, np.float32))[None],
        "input_image_meta": mold.meta(frame, 4),
        "input_anchors": mold.anchors(frame.frame_hw, bundled.SETTINGS.anchors),
    }
    expected = {name: tensor.numpy() for name, tensor in source.graph.call(inputs).items()}
    codes = quantize.quantize_image(image, signatures.int8_contract(source).image)[None]
    got = signatures.int8(source).functions["serving_default"](tf.constant(codes))
    rows = expected["mrcnn_detection"]
    assert (rows[0, :, 4] > 0).any()
    np.testing.assert_allclose(got["mrcnn_detection"], rows, atol=1e-5)
    for row in np.flatnonzero(rows[0, :, 4]):
        own = expected["mrcnn_mask"][0, row, :, :, int(rows[0, row, 4])]
        assert np.abs(got["mrcnn_mask"].numpy()[0, row] / 127 - own).max() <= 0.5 / 127 + 1e-4


def test_versions_are_added_and_never_touched(source, tmp_path):
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "keep").write_text("mine")
    (tmp_path / "notes").mkdir()
    assert write.write(signatures.float32(source), tmp_path) == tmp_path / "8"
    assert (tmp_path / "7" / "keep").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["7", "8", "notes"]


def test_a_failed_export_leaves_nothing(source, tmp_path):
    exported = signatures.int8(source)

    @tf.function(input_signature=[tf.TensorSpec([1, None, None, 3], tf.int8, "input_image")])
    def broken(input_image):
        tf.debugging.assert_greater(tf.reduce_sum(tf.cast(input_image, tf.float32)), 1e9)
        return {"mrcnn_detection": tf.zeros([1, 1, 6]), "mrcnn_mask": input_image}

    exported.functions, exported.warm_up = {"serving_default": broken}, {}
    with pytest.raises(ExportError, match="must run on an image of 1024 x 1024"):
        write.write(exported, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("builder", "weights", "message"),
    [
        ("deploy.models.shapes.network:nothing", bundled.WEIGHTS, "package.module:function"),
        ("no.such.module:build", bundled.WEIGHTS, "package.module:function"),
        (bundled.BUILDER, Path("nowhere.weights.h5"), "nowhere.weights.h5"),
        ("deploy.models.shapes.network:_mask_head", bundled.WEIGHTS, "must fit the model"),
        (":", bundled.WEIGHTS, "package.module:function"),
        ("math:sin", bundled.WEIGHTS, "without arguments"),
        ("deploy.models.shapes.network:parts", bundled.WEIGHTS, "Keras model, got Parts"),
    ],
)
def test_a_wrong_source_is_named(builder, weights, message):
    with pytest.raises(ExportError, match=message):
        of_graph(from_builder(builder, weights), bundled.SETTINGS, {})


def test_outputs_and_inputs_of_a_keras_model_in_other_forms():
    """A list of outputs goes by the layers' names, inputs may be a dict, and a dict within a dict is refused."""
    first, second = (keras.Input((None, 2), name=name) for name in ("first", "second"))
    added, taken = keras.layers.Add(name="added")([first, second]), keras.layers.Subtract(name="taken")([first, second])
    tensors = {"first": tf.fill([1, 3, 2], 5.0), "second": tf.fill([1, 3, 2], 2.0)}
    for model in (
        keras.Model([first, second], [added, taken]),
        keras.Model({"first": first, "second": second}, {"added": added, "taken": taken}),
    ):
        graph = from_keras(model, "sums")
        assert (set(graph.inputs), set(graph.outputs)) == ({"first", "second"}, {"added", "taken"})
        outputs = graph.call(tensors)
        assert (outputs["added"][0, 0, 0], outputs["taken"][0, 0, 0]) == (7, 3)
    with pytest.raises(ExportError, match="must be tensors by name, got a dict for 'both'"):
        from_keras(keras.Model([first, second], {"both": {"added": added}}), "nested")


def test_weights_of_another_network_are_refused(tmp_path):
    wrong = tmp_path / "wrong.weights.h5"
    shutil.copy(bundled.WEIGHTS.with_name("bundled.py"), wrong)
    with pytest.raises(ExportError, match="must fit the model"):
        from_builder(bundled.BUILDER, wrong)


def test_labels_must_be_as_many_as_the_classes():
    graph = from_builder(bundled.BUILDER, bundled.WEIGHTS)
    with pytest.raises(ExportError, match="3 names, one for each class of the model but the background, got 2"):
        of_graph(graph, bundled.SETTINGS, {1: "one", 2: "two"})


@pytest.mark.parametrize(
    ("options", "message"),
    [(("--max-dim", "1000"), "must run on an image"), (("--anchor-scales", "8", "16"), "one scale for each stride")],
)
def test_settings_that_do_not_fit_the_model_are_named(tmp_path, capsys, options, message):
    own = ("--builder", bundled.BUILDER, "--weights", str(bundled.WEIGHTS))
    assert main(["int8", "--output", str(tmp_path / "out"), *own, *options]) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("export: ")
    assert message in last
    assert not (tmp_path / "out").exists()
