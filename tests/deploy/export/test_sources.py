"""Every kind of source through the command line, the stand-in and the function; oracles are TensorFlow and NumPy."""

import io
import itertools
import sys
import warnings
from contextlib import contextmanager
from pathlib import Path

import functions_framework
import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
from keras.src.legacy.saving import legacy_h5_format
from PIL import Image
from tensorflow_serving.apis import prediction_log_pb2

from deploy.export.__main__ import main
from deploy.model_server.flags import Flags
from deploy.model_server.server import ModelServer
from deploy.models.shapes import bundled, coins, network
from handler.model import mold
from handler.model.contract import AnchorInput, ModelContract, Resize
from tests.deploy.export import finders, savedmodels
from tests.support.masks import sample
from tests.support.readers import coco_decode, float32_decode

ROOT = Path(__file__).parents[3]
OWN = ["--resize-mode=pad64", "--min-dim=0", "--anchor-scales", "12", "24", "48", "96", "192"]
RECIPES = ["int8", "int8-cast"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, exported):
    folder = tmp_path_factory.mktemp("sources")
    (folder / "float32").symlink_to(exported("float32"))
    (folder / "labels.txt").write_text("circle\nsquare\ntriangle\n")
    savedmodels.save_tensorflow_1(folder / "tensorflow_1", newest(folder / "float32"))
    model = network.build()
    model.load_weights(bundled.WEIGHTS)
    with h5py.File(folder / "keras_2.h5", "w") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Keras 3 predates NumPy 2's copy keyword here
        legacy_h5_format.save_weights_to_hdf5_group(file, model)
    return folder


def newest(base):
    """Return the folder of the highest version under a base path."""
    return max(base.glob("[0-9]*"), key=lambda path: int(path.name))


def source_options(folder, source):
    builder = ["--builder", bundled.BUILDER, "--weights"]
    labels = ["--labels", str(folder / "labels.txt")]
    return {
        "builder": [*builder, str(bundled.WEIGHTS), *labels],
        "builder, Keras 2": [*builder, str(folder / "keras_2.h5"), *labels],
        "TensorFlow 2": ["--saved-model", str(newest(folder / "float32")), *labels],
        "TensorFlow 1": ["--saved-model", str(folder / "tensorflow_1"), *labels],
    }[source] + OWN


@contextmanager
def function(base, monkeypatch, **settings):
    """Yield the function in front of the stand-in with the model under ``base``."""
    with ModelServer(Flags(port=0, model_name="shapes", model_base_path=str(base))) as server:
        for name, value in {"TF_SERVING_ADDRESS": server.target, **settings}.items():
            monkeypatch.setenv(name, value)
        http = functions_framework.create_app("segment", str(ROOT / "main.py")).test_client()
        try:
            yield http
        finally:
            sys.modules["main"].SERVICE.client.close()


def png(image):
    body = io.BytesIO()
    Image.fromarray(image).save(body, "PNG")
    return body.getvalue()


def in_tensorflow(folder, image):
    """Return rows [N, 6] and masks [N, h, w, C] of the float32 export, run in TensorFlow on an image uint8."""
    frame = mold.resize_rule(image.shape[:2], bundled.SETTINGS.resize)
    top, left, bottom, right = frame.window
    molded = np.zeros((1, *frame.frame_hw, 3), np.float32)
    molded[0, top:bottom, left:right] = image
    outputs = tf.saved_model.load(str(newest(folder / "float32"))).signatures["serving_default"](
        input_image=tf.constant(molded - np.array(bundled.SETTINGS.mean, np.float32)),
        input_image_meta=tf.constant(mold.meta(frame, 4)),
        input_anchors=tf.constant(mold.anchors(frame.frame_hw, bundled.SETTINGS.anchors)),
    )
    rows = outputs["mrcnn_detection"].numpy()[0]
    real = rows[:, 4] > 0
    return rows[real], outputs["mrcnn_mask"].numpy()[0][real]


SOURCES = ("builder", "builder, Keras 2", "TensorFlow 2", "TensorFlow 1")
DAILY = [("TensorFlow 1", "int8")]


@pytest.mark.parametrize(
    ("source", "recipe"),
    [
        pytest.param(*route, marks=() if route in DAILY else pytest.mark.campaign)
        for route in itertools.product(SOURCES, RECIPES)
    ],
)
def test_every_route_answers_through_the_function(folder, tmp_path, monkeypatch, source, recipe):
    assert main([recipe, "--output", str(tmp_path / "shapes"), *source_options(folder, source)]) == 0
    image = coins.photo(384)
    rows, masks = in_tensorflow(folder, image)
    assert len(rows) == coins.COINS
    with function(tmp_path / "shapes", monkeypatch, **bundled.ENVIRONMENT) as http:
        answer = http.post("/?mask=float32", data=png(image))
        assert answer.status_code == 200, answer.text
        found = answer.json["instances"]
        contract = http.get("/model").json["contract"]
    labels = [bundled.SETTINGS.labels[int(row[4]) - 1] for row in rows]
    if recipe == "int8-cast":  # its image is not the same, so neither are its scores
        assert contract["masks"]["naive_cast"]
        assert {one["label"] for one in found} == set(labels)
        return
    assert contract["labels"] == {"1": "circle", "2": "square", "3": "triangle"}
    assert [one["label"] for one in found] == labels
    np.testing.assert_allclose([one["score"] for one in found], rows[:, 5], atol=1e-5)
    for one, row, mask in zip(found, rows, masks, strict=True):
        own = mask[..., int(row[4])]
        assert np.abs(float32_decode(one["mask"]) - own).max() <= 0.5 / 127 + 1e-4


def by_hand(found, count, size_hw):
    """Return what the function should say of detections, in NumPy: box, class, score and mask of each."""
    height, width = size_hw
    boxes, classes, scores, masks = (part[:count] for part in found)
    for box, class_id, score, mask in zip(boxes, classes, scores, masks, strict=True):
        y1, x1, y2, x2 = (round(float(side)) for side in box.astype(float) * [height, width, height, width])
        probabilities = np.rint(mask * 127) / 127
        yield (y1, x1, y2, x2), int(class_id), float(score), sample(probabilities, (y1, x1, y2, x2))


@pytest.mark.parametrize(("mask_hw", "size_hw"), [((33, 33), (120, 200)), ((15, 15), (900, 300))])
@pytest.mark.parametrize("count_is", ["fixed", "dynamic"])
@pytest.mark.parametrize("dialect", ["object-detection", "model-garden"])
def test_detection_models_give_the_masks_worked_by_hand(request, dialect, count_is, mask_hw, size_hw):
    tmp_path, monkeypatch = request.getfixturevalue("tmp_path"), request.getfixturevalue("monkeypatch")
    dynamic = count_is == "dynamic"
    found = savedmodels.detections(8, mask_hw, seed=mask_hw[0])
    count = 5
    if dialect == "object-detection":
        savedmodels.save_object_detection(tmp_path / "source", found, count, dynamic=dynamic)
    else:
        savedmodels.save_model_garden(tmp_path / "source", found, count, (0.75, 1.5), dynamic)
    options = ["--saved-model", str(tmp_path / "source"), "--max-dim=512", "--output", str(tmp_path / "shapes")]
    assert main(["int8", *options]) == 0
    with function(tmp_path / "shapes", monkeypatch) as http:
        body = png(np.full((*size_hw, 3), 255, np.uint8))
        answer = http.post("/", data=body)
        assert answer.status_code == 200, answer.text
        contract = http.get("/model").json["contract"]
    assert contract["source"].endswith(f"({dialect})")
    assert contract["detections"]["boxes"] == "image"
    assert contract["resize"] == {"mode": "fit", "min_dim": 0, "max_dim": 512, "min_scale": 0.0}
    for one, (box, class_id, score, mask) in zip(answer.json["instances"], by_hand(found, count, size_hw), strict=True):
        y1, x1, y2, x2 = box
        assert one["box"] == {"x": x1, "y": y1, "width": x2 - x1, "height": y2 - y1}
        assert one["class_id"] == class_id
        assert one["score"] == pytest.approx(score, abs=1e-5)
        crop = coco_decode(one["mask"])[y1:y2, x1:x2]
        sure = np.abs(mask - 0.5) > 1e-5
        assert np.array_equal(crop[sure], (mask >= 0.5)[sure])


def test_what_is_past_the_count_is_zero_and_probabilities_stay_within_their_codes(tmp_path):
    boxes, classes, scores, masks = savedmodels.detections(6, (15, 15), seed=3)
    masks = masks * 1.2 - 0.1
    boxes[4:], masks[4:] = np.nan, np.nan
    savedmodels.save_object_detection(tmp_path / "source", (boxes, classes, scores, masks.astype(np.float16)), 4)
    assert main(["--saved-model", str(tmp_path / "source"), "--output", str(tmp_path / "shapes")]) == 0
    serve = tf.saved_model.load(str(tmp_path / "shapes" / "1")).signatures["serving_default"]
    outputs = serve(input_image=tf.fill([1, 64, 64, 3], tf.constant(127, tf.int8)))
    rows, codes = outputs["mrcnn_detection"].numpy()[0], outputs["mrcnn_mask"].numpy()[0]
    assert not rows[4:].any()
    assert not codes[4:].any()
    expected = np.rint(127 * np.clip(masks[:4].astype(np.float16).astype(np.float32), 0, 1))
    assert np.abs(codes[:4] - expected).max() <= 1
    assert (codes.min(), codes.max()) == (0, 127)


class Recorder(keras.layers.Layer):
    """Answers what it was given: the corner of the image, the meta, and the first and last anchor."""

    def call(self, image, meta, anchors):
        told = tf.concat([image[:, 0, 0], image[:, -1, -1], meta, anchors[:, 0], anchors[:, -1]], -1)
        length = tf.cast(tf.shape(anchors)[1], tf.float32)[None, None]
        told = tf.concat([told, length, tf.zeros([1, 5])], -1)
        rows = tf.reshape(told[:, : told.shape[1] // 6 * 6], [1, -1, 6]) / 4096
        return rows * [1, 1, 1, 1, 0, 1], tf.zeros([1, rows.shape[1], 7, 7, 6]), rows


def recorder():
    image, meta = keras.Input((None, None, 3), name="input_image"), keras.Input((18,), name="input_image_meta")
    anchors = keras.Input((None, 4), name="input_anchors")
    rows, masks, told = Recorder()(image, meta, anchors)
    return keras.Model([image, meta, anchors], {"mrcnn_detection": rows, "mrcnn_mask": masks, "told": told})


@pytest.mark.parametrize("kind", ["int8", "float32"])
def test_every_option_of_a_matterport_model_reaches_its_graph(tmp_path, kind):
    mean, ratios, scales, strides = (10.0, 20.0, 30.0), (0.25, 1.0, 2.0, 4.0), (16.0, 48.0), (8, 32)
    recorder().save_weights(tmp_path / "none.weights.h5")
    source = ["--builder", f"{__name__}:recorder", "--weights", str(tmp_path / "none.weights.h5")]
    options = ["--mean", *mean, "--anchor-ratios", *ratios, "--anchor-scales", *scales, "--strides", *strides]
    options += ["--resize-mode", "square", "--min-dim", 64, "--max-dim", 128, "--min-scale", 1.5]
    assert main([kind, *source, *map(str, options), "--output", str(tmp_path / "model")]) == 0
    loaded = tf.saved_model.load(str(tmp_path / "model" / "1"))
    frame = mold.resize_rule((96, 128), Resize(mode="square", min_dim=0, max_dim=128))
    spec = AnchorInput(scales=scales, ratios=ratios, strides=strides)
    anchors, meta = mold.anchors((128, 128), spec), mold.meta(frame, 6)
    if kind == "int8":
        contract = ModelContract.from_json(
            loaded.signatures["segment_contract"](query=tf.zeros([1], tf.int8))["contract"].numpy()[0]
        )
        assert contract.resize == Resize(mode="square", min_dim=64, max_dim=128, min_scale=1.5)
        assert contract.image.mean is None
    else:
        assert loaded.signatures["serving_default"].structured_input_signature[1]["input_image_meta"].shape == [
            None,
            18,
        ]
    recorded = record(loaded, kind, frame, meta, anchors)
    black = -np.array(mean, np.float32)
    expected = np.concatenate([black, black, meta[0], anchors[0, 0], anchors[0, -1]])
    expected = np.append(expected, len(anchors[0]))
    sent = np.arange(len(recorded)) % 6 != 4  # the class of each row, which has to be 0 here
    np.testing.assert_allclose(
        recorded[: len(expected)][sent[: len(expected)]], expected[sent[: len(expected)]], atol=1e-3
    )


def record(loaded, kind, frame, meta, anchors):
    """Return the numbers that the recorder tells of a black image of 96 x 128."""
    serve = loaded.signatures["serving_default"]
    if kind == "int8":
        rows = serve(input_image=tf.fill([1, 96, 128, 3], tf.constant(-128, tf.int8)))["mrcnn_detection"]
    else:
        image = np.zeros((1, *frame.frame_hw, 3), np.float32) - np.array((10, 20, 30), np.float32)
        rows = serve(input_image=image, input_image_meta=meta, input_anchors=anchors)["mrcnn_detection"]
    return rows.numpy().ravel() * 4096


@pytest.mark.parametrize(
    ("model", "options"),
    [
        (finders.detection, {"mask_of": "image", "masks": "bool"}),
        (finders.detection, {"size": (256, 256), "dtype": tf.float32, "scale": "-1..1"}),
        (finders.matterport, {"names": ("input_image", "input_image_meta", None, "detection", "mask")}),
    ],
)
def test_variants_are_served(request, model, options):
    tmp_path, monkeypatch = request.getfixturevalue("tmp_path"), request.getfixturevalue("monkeypatch")
    image = finders.drawing((200, 150))
    (tmp_path / "pictures").mkdir()
    Image.fromarray(image).save(tmp_path / "pictures" / "1.png")
    finders.save(model(**options), tmp_path / "source")
    given = ["--scale=-1..1"] if "scale" in options else []
    given += ["--max-dim=256"] if model is finders.matterport else []
    paths = ["--images", str(tmp_path / "pictures"), "--output", str(tmp_path / "shapes")]
    assert main(["--saved-model", str(tmp_path / "source"), *paths, *given]) == 0
    with function(tmp_path / "shapes", monkeypatch) as http:
        found = http.post("/", data=png(image)).json["instances"]
    assert len(found) == 2
    for one, box in zip(found, finders.boxes_in(image.shape[:2]), strict=True):
        mask, truth = coco_decode(one["mask"]).astype(bool), finders.ellipse(box, image.shape[:2])
        assert (mask & truth).sum() / (mask | truth).sum() >= 0.93


def test_pixels_reach_a_detection_model_as_they_are(tmp_path, monkeypatch):
    found = savedmodels.detections(3, (15, 15), seed=1)
    savedmodels.save_object_detection(tmp_path / "source", found, 3, image=tf.float32)
    assert main(["--saved-model", str(tmp_path / "source"), "--output", str(tmp_path / "shapes")]) == 0
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    with function(tmp_path / "shapes", monkeypatch) as http:
        scores = [one["score"] for one in http.post("/?mask=none", data=png(image)).json["instances"]]
    np.testing.assert_allclose(scores, found[2] * image.mean() / 255, atol=1e-5)


def test_what_is_no_detection_ends_the_list(tmp_path, monkeypatch):
    boxes, classes, scores, masks = savedmodels.detections(6, (15, 15), seed=2)
    classes[[1, 3]] = 0
    savedmodels.save_object_detection(tmp_path / "source", (boxes, classes, scores, masks), 5)
    options = ["--first-class=1", "--output", str(tmp_path / "shapes")]
    assert main(["--saved-model", str(tmp_path / "source"), *options]) == 0
    with function(tmp_path / "shapes", monkeypatch) as http:
        found = http.post("/", data=png(np.full((50, 50, 3), 255, np.uint8))).json["instances"]
    assert [one["class_id"] for one in found] == classes[[0, 2, 4]].tolist()


@pytest.mark.campaign
def test_labels_of_the_source_are_kept(tmp_path, exported):
    loaded = tf.saved_model.load(str(newest(exported("int8"))))

    @tf.function(input_signature=[tf.TensorSpec([1, None, None, 3], tf.uint8, "image")])
    def serve(image):
        answer = savedmodels.detections(2, (7, 7), 0)
        names = ("detection_boxes", "detection_classes", "detection_scores", "detection_masks")
        outputs = {name: tf.constant(part, tf.float32)[None] for name, part in zip(names, answer, strict=True)}
        return {**outputs, "num_detections": tf.reduce_sum(tf.cast(image, tf.float32))[None] * 0 + 2}

    module = tf.Module()
    module.both = [serve, loaded]
    both = {"serving_default": serve, "segment_contract": loaded.signatures["segment_contract"]}
    tf.saved_model.save(module, str(tmp_path / "second"), both)
    assert main(["--saved-model", str(tmp_path / "second"), "--output", str(tmp_path / "third")]) == 0
    state = tf.saved_model.load(str(tmp_path / "third" / "1")).signatures["segment_contract"]
    assert b'"labels":{"1":"circle"' in state(query=tf.zeros([1], tf.int8))["contract"].numpy()[0]


def test_the_warm_up_is_a_request_the_model_answers(exported):
    version = newest(exported("int8"))
    records = list(tf.data.TFRecordDataset(str(version / "assets.extra" / "tf_serving_warmup_requests")))
    log, *_ = [prediction_log_pb2.PredictionLog.FromString(record.numpy()) for record in records]
    request = log.predict_log.request
    loaded = tf.saved_model.load(str(version))
    text = loaded.signatures["segment_contract"](query=tf.zeros([1], tf.int8))["contract"].numpy()[0]
    signature = ModelContract.from_json(text).signature  # the one that the function calls
    assert (request.model_spec.name, request.model_spec.signature_name) == ("int8", signature)
    image = tf.make_ndarray(request.inputs["input_image"])
    assert (image.shape, image.dtype) == ((1, 1024, 1024, 3), np.int8)
    assert len(np.unique(image)) > 100
    size = tf.make_ndarray(request.inputs["image_size"])
    outputs = loaded.signatures[signature](input_image=tf.constant(image), image_size=tf.constant(size))
    assert set(outputs) == {"mrcnn_detection", "mrcnn_mask"}
