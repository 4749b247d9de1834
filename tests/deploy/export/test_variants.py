"""A table of the models that people bring: what each gives through the function, or why it is refused.

Each model finds the two ellipses of a picture by its pixels. The expectation is where the picture has them.
"""

import io
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from deploy.export import signatures, write
from deploy.export.graphs import ExportError, Signature, from_saved_model
from deploy.export.reading import Reading
from deploy.export.settle import settle
from deploy.export.source import of_graph
from handler import pipeline
from handler.config import Config
from handler.image.decode import Limits
from handler.model.contract import ModelContract
from handler.options import Options
from handler.types import Prediction
from tests.deploy.export import finders
from tests.support.readers import coco_decode

SIZES = ((120, 160), (200, 150))


@dataclass(frozen=True)
class Taken:
    """A model, the options that it needs, and the classes of the red and the blue ellipse in the answer."""

    name: str
    model: dict
    reading: dict = field(default_factory=dict)
    classes: tuple = (1, 2)
    told: str = "4 objects"
    settings: dict = field(default_factory=dict)
    box_px: float = 1.0
    iou: float = 0.96
    score: float = 1e-3


def plain(name):
    """Return the names of a Matterport model with outputs of one naming."""
    first, second = name
    return (*finders.MATTERPORT[:3], first, second)


DETECTION = [
    Taken("uint8", {}),
    Taken("free batch", {"batch": None}),
    Taken("free channels", {"channels": None}),
    Taken("int32 image", {"dtype": tf.int32}),
    Taken("int64 image", {"dtype": tf.int64}),
    Taken("float32 image, 0..255", {"dtype": tf.float32}),
    Taken("float16 image, 0..255", {"dtype": tf.float16}, {"scale": "0..255"}),
    Taken("float32 image, 0..1", {"dtype": tf.float32, "scale": "0..1"}, {"scale": "0..1"}),
    Taken("float32 image, -1..1", {"dtype": tf.float32, "scale": "-1..1"}, {"scale": "-1..1"}),
    Taken("float32 image, ImageNet's", {"dtype": tf.float32, "scale": "imagenet"}, {"scale": "imagenet"}),
    Taken("BGR", {"bgr": True}, {"bgr": True}),
    Taken("BGR, float32, 0..1", {"bgr": True, "dtype": tf.float32, "scale": "0..1"}, {"bgr": True, "scale": "0..1"}),
    Taken("one channel", {"channels": 1}),
    Taken("one channel, float32, -1..1", {"channels": 1, "dtype": tf.float32, "scale": "-1..1"}, {"scale": "-1..1"}),
    Taken("fixed size, padded", {"size": (256, 256)}, box_px=1.5),
    Taken("fixed size, squeezed", {"size": (256, 256)}, {"resize": "stretch"}, box_px=1.5),
    Taken("fixed wide size", {"size": (192, 320)}, box_px=2.0),
    Taken("fixed wide size, in a letterbox", {"size": (192, 320)}, {"resize": "letterbox"}, box_px=2.0),
    Taken("fixed wide size, squeezed", {"size": (192, 320)}, {"resize": "stretch"}, box_px=2.0),
    Taken(
        "fixed size, float32, 0..1, BGR",
        {"size": (256, 256), "dtype": tf.float32, "scale": "0..1", "bgr": True},
        {"scale": "0..1", "bgr": True},
        box_px=1.5,
    ),
    Taken("fixed size smaller than the image", {"size": (96, 96)}, box_px=3.0, iou=0.9),
    Taken("scalar count", {"counts": "scalar", "class_type": tf.int32}),
    Taken("count int64 [1, 1]", {"counts": "int64 [1, 1]", "class_type": tf.int64}),
    Taken("no count", {"counts": None}),
    Taken("uint8 classes", {"class_type": tf.uint8}),
    Taken("class ids from 0", {"classes": (0, 1)}, {"first_class": 0}),
    Taken("class ids from 0, no count", {"classes": (0, 4), "counts": None}, {"first_class": 0}, classes=(1, 5)),
    Taken("outputs with :0", {"suffix": ":0"}),
    Taken("scores 0..100", {"scores": "0..100"}, {"score_values": "0..100"}),
    Taken("scores as logits", {"scores": "logits"}, {"score_values": "logits"}),
    Taken("float16 boxes and scores", {"floats": tf.float16}),
    Taken("bfloat16 boxes and scores", {"floats": tf.bfloat16}, box_px=2.0, iou=0.93, score=4e-3),
    Taken("float16 masks", {"masks": "float16"}),
    Taken("masks as logits", {"masks": "logits"}, told="masks are logits"),
    Taken("bool masks", {"masks": "bool"}, iou=0.93),
    Taken("uint8 masks of 0 and 1", {"masks": "uint8 0..1"}, iou=0.93),
    Taken("uint8 masks of 0..255", {"masks": "uint8 0..255"}, told="masks are 0..255"),
    Taken("int32 masks", {"masks": "int32"}, iou=0.93),
    Taken("masks of the image", {"mask_of": "image"}, told="masks cover the whole image"),
    Taken("bool masks of the image", {"mask_of": "image", "masks": "bool"}, told="masks cover the whole image"),
    Taken("uint8 masks of the image", {"mask_of": "image", "masks": "uint8 0..1"}, told="masks cover the whole image"),
    Taken("masks of the image, 0..255", {"mask_of": "image", "masks": "uint8 0..255"}, told="masks are 0..255"),
    Taken("masks of the image, a quarter", {"mask_of": "quarter"}, told="masks cover the whole image", iou=0.9),
    Taken("masks of the image, padded", {"mask_of": "image", "size": (256, 256)}, told="masks cover", box_px=1.5),
    Taken(
        "masks of the image, squeezed",
        {"mask_of": "image", "size": (256, 256)},
        {"resize": "stretch"},
        told="masks cover",
        box_px=1.5,
    ),
    Taken("masks of the image, of one size", {"mask_of": "image of 64"}, {"mask_of": "image"}, iou=0.85),
    Taken("Model Garden", {"garden": True, "shares": False, "class_type": tf.int32}),
    Taken("Model Garden, free batch", {"garden": True, "shares": False, "batch": None}),
    Taken("Model Garden, fixed size", {"garden": True, "shares": False, "size": (256, 256)}, box_px=1.5),
    Taken(
        "Model Garden for TFLite: fixed, ImageNet's",
        {"garden": True, "shares": False, "size": (256, 256), "dtype": tf.float32, "scale": "imagenet"},
        {"scale": "imagenet"},
        box_px=1.5,
    ),
    Taken("Model Garden, boxes 0..1", {"garden": True}, told="boxes are shares of the image already"),
    Taken(
        "Model Garden, masks of the image", {"garden": True, "shares": False, "mask_of": "image"}, told="masks cover"
    ),
]
COMBINED = {  # rows whose parts have rows of their own: not for every day
    *("int64 image", "float16 image, 0..255", "BGR, float32, 0..1", "one channel, float32, -1..1", "free channels"),
    *("fixed size, padded", "fixed size, squeezed", "fixed size smaller than the image", "count int64 [1, 1]"),
    *("bool masks of the image", "uint8 masks of the image", "masks of the image, 0..255", "int32 masks"),
    *("masks of the image, squeezed", "Model Garden, free batch", "Model Garden, fixed size", "batch of 1"),
    *("mrcnn_detection/Reshape_1", "other inputs", "logits of own masks", "class ids from 0, no count"),
}


def by_cost(table):
    """Return the rows of a table as parameters, those of COMBINED for the campaigns."""
    return [
        pytest.param(taken, id=taken.name, marks=[pytest.mark.campaign] * (taken.name in COMBINED)) for taken in table
    ]


SQUARE = {"IMAGE_MIN_DIM": "0", "IMAGE_MAX_DIM": "256"}
PAD64 = {"IMAGE_RESIZE_MODE": "pad64", "IMAGE_MIN_DIM": "0"}
NO_ANCHORS = ("input_image", "input_image_meta", None)
MATTERPORT = [
    Taken("Matterport", {}),
    Taken("batch of 1", {"batch": 1}),
    Taken("pad64", {}, settings=PAD64),
    Taken("resize mode none", {}, settings={"IMAGE_RESIZE_MODE": "none"}),
    Taken("fixed size", {"size": (256, 256)}),
    Taken("mrcnn_detection/Reshape_1", {"names": plain(("mrcnn_detection/Reshape_1", "mrcnn_mask/Reshape_1"))}),
    Taken("mrcnn_detection/Reshape_1:0", {"names": plain(("mrcnn_detection/Reshape_1:0", "mrcnn_mask/Reshape_1:0"))}),
    Taken("detection, mask, anchors in the graph", {"names": (*NO_ANCHORS, "detection", "mask")}),
    Taken("output_0, output_1", {"names": plain(("output_0", "output_1"))}),
    Taken("other inputs", {"names": ("args_0", "args_0_1", "args_0_2", "output_0", "output_3")}),
    Taken("a choice of outputs", {"names": plain(("a", "b")), "others": False}),
    Taken("no meta, no anchors", {"names": ("input_image", None, None, "mrcnn_detection", "mrcnn_mask")}),
    Taken("own masks only", {"per_class": False}),
    Taken("logits", {"masks": "logits"}),
    Taken("logits of own masks", {"masks": "logits", "per_class": False}, {"mask_values": "logits"}),
    Taken("one channel", {"channels": 1, "scale": "grey mean"}, settings={"MEAN_PIXEL": "100,100,100"}),
    Taken("BGR", {"bgr": True}, {"bgr": True}),
    Taken("0..1", {"scale": "0..1"}, {"scale": "0..1"}, settings={"MEAN_PIXEL": "0,0,0"}),
]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    for place, size_hw in enumerate(SIZES):
        Image.fromarray(finders.drawing(size_hw)).save(folder / f"{place}.png")
    return folder


def answers(settled):
    """Return size, contract and instances for each picture, as the function finds them with the int8 export."""
    functions = signatures.int8(settled.source).functions
    contract = ModelContract.from_json(functions["segment_contract"](tf.zeros([1], tf.int8))["contract"].numpy()[0])

    def predict(inputs):
        outputs = functions["serving_default"](tf.constant(inputs["input_image"]))
        return Prediction({name: tensor.numpy() for name, tensor in outputs.items()}, 1)

    for size_hw in SIZES:
        body = io.BytesIO()
        Image.fromarray(finders.drawing(size_hw)).save(body, "PNG")
        yield size_hw, pipeline.segment(body.getvalue(), Options(), contract, predict, Limits()).instances


def check(settled, taken):
    for size_hw, instances in answers(settled):
        assert [one.class_id for one in instances] == list(taken.classes)
        np.testing.assert_allclose([one.score for one in instances], finders.SCORES, atol=taken.score)
        for one, box in zip(instances, finders.boxes_in(size_hw), strict=True):
            assert np.abs(np.subtract(one.box, box)).max() <= taken.box_px, (one.box, box)
            mask, truth = coco_decode(msgspec.to_builtins(one.mask)).astype(bool), finders.ellipse(box, size_hw)
            assert (mask & truth).sum() / (mask | truth).sum() >= taken.iou


def settings_of(**environ):
    return Config.from_environ(environ).matterport


@pytest.mark.parametrize("taken", by_cost(DETECTION))
def test_detection_models(taken, pictures):
    source = of_graph(finders.detection(**taken.model), settings_of(), {}, reading=Reading(**taken.reading))
    settled = settle(source, pictures)
    assert any(taken.told in line for line in settled.lines), settled.lines
    check(settled, taken)


class Named(tf.Module):
    """A detection model that also gives the names of its classes, by a hash table."""

    def __init__(self):
        super().__init__()
        names = tf.lookup.KeyValueTensorInitializer([1, 2], ["red", "blue"], tf.int64, tf.string)
        self.table = tf.lookup.StaticHashTable(names, "")
        self.detect = finders.detection()

    @tf.function(input_signature=[tf.TensorSpec([1, None, None, 3], tf.uint8, "input_tensor")])
    def serve(self, input_tensor):
        found = self.detect.call({"input_tensor": input_tensor})
        return {**found, "detection_names": self.table.lookup(tf.cast(found["detection_classes"], tf.int64))}


def test_a_hash_table_and_text_beside_the_detections(tmp_path, pictures):
    module = Named()
    tf.saved_model.save(module, str(tmp_path / "source"), {"serving_default": module.serve})
    source = of_graph(from_saved_model(tmp_path / "source", "serving_default"), settings_of(), {})
    settled = settle(source, pictures)
    check(settled, Taken("", {}))
    write.write(signatures.int8(settled.source), tmp_path / "model", settled.examples)  # loads and runs what it saved


@pytest.mark.parametrize("taken", by_cost(MATTERPORT))
def test_matterport_models(taken, pictures):
    source = of_graph(
        finders.matterport(**taken.model), settings_of(**SQUARE | taken.settings), {}, reading=Reading(**taken.reading)
    )
    assert source.dialect == "matterport"
    check(settle(source, pictures), Taken("", {}, classes=(1, 3), box_px=1.0, iou=taken.iou))


MIXED = {"mrcnn_detection": (tf.int64, [None]), "mrcnn_mask": (tf.float32, [2, 100, 28, 28, 4])}
FLAT = {"mrcnn_detection": (tf.float32, [1, 5, 6]), "mrcnn_mask": (tf.float32, [1, 5, 28, 28, 4])}
IMAGES = {"input_image": [None, None, None, 3], "input_image_meta": [None, 16], "input_anchors": [None, None, 4]}


def declared(outputs, inputs=IMAGES, dtype=tf.float32):
    """Return a signature that is never run."""
    specs = {name: tf.TensorSpec(shape, dtype, name) for name, shape in inputs.items()}
    found = {name: tf.TensorSpec(shape, kind) for name, (kind, shape) in outputs.items()}
    return finders.Graph(specs, found, None, (), "declared")


SIGNATURES: dict[str, tuple[Callable[[], Any], dict[str, Any], str]] = {
    "four channels": (lambda: finders.detection(channels=4, bgr=True), {}, "has no fourth channel.* wrap the model"),
    "channels first": (lambda: finders.detection(size=(3, 64), channels=64), {}, "channels come last here: transpose"),
    "batch of 8": (lambda: finders.detection(batch=8), {}, r"one image at a time, got uint8 \[8, .*--batch_size=1"),
    "an extra input": (
        lambda: finders.detection(extra="shapes"),
        {},
        "must have one input, the image, .*: wrap the model",
    ),
    "one fixed side": (lambda: finders.detection(size=(64, None)), {}, "must be fixed both or neither"),
    "uint16 image": (
        lambda: finders.detection(dtype=tf.uint16),
        {},
        "one of uint8, int32, int64, float32, float16, got",
    ),
    "no batch axis": (
        lambda: declared(
            dict.fromkeys(
                ("detection_boxes", "detection_classes", "detection_scores", "detection_masks"), (tf.float32, None)
            ),
            {"image": [None, None, 3]},
        ),
        {},
        r"must be \[1, H, W, 3\], got image float32 \[any, any, 3\]: wrap",
    ),
    "--scale for whole numbers": (finders.detection, {"scale": "0..1"}, "must come with an image of floats"),
    "--resize without a fixed size": (
        finders.detection,
        {"resize": "pad"},
        "must come with an image of fixed size",
    ),
    "--bgr for grey": (
        lambda: finders.detection(channels=1),
        {"bgr": True},
        "--bgr .* must come with an image of 3 channels",
    ),
    "--masks for detection": (
        finders.detection,
        {"masks": "detection_masks"},
        "--masks must come with a model of another dialect|must have",
    ),
    "Matterport, batch of 2": (
        lambda: declared(FLAT, {name: [2, *shape[1:]] for name, shape in IMAGES.items()}),
        {},
        "IMAGES_PER_GPU = 1",
    ),
    "Matterport, names of other tensors": (
        lambda: declared(MIXED),
        {},
        r"got int64 \[any\]: the signature gives this name to another tensor.*IMAGES_PER_GPU = 1",
    ),
    "Matterport, four channels": (
        lambda: declared(FLAT, {**IMAGES, "input_image": [None, None, None, 4]}),
        {},
        "has no fourth channel",
    ),
    "Matterport, grey without its mean": (
        lambda: declared(FLAT, {**IMAGES, "input_image": [None, None, None, 1]}),
        {},
        "--mean must be the one MEAN_PIXEL",
    ),
    "Matterport, another fixed size": (
        lambda: declared(FLAT, {**IMAGES, "input_image": [None, 512, 512, 3]}),
        {},
        "--max-dim its side, got float32",
    ),
    "Matterport, several readings": (
        lambda: declared(
            {f"output_{n}": (tf.float32, [1, None, 6]) for n in range(2)}
            | {"output_2": (tf.float32, [1, None, 28, 28, 6])}
        ),
        {},
        "--detections and --masks",
    ),
    "a name that is none": (
        lambda: declared(FLAT),
        {"detections": "boxes"},
        "--detections must be an output of the model",
    ),
}


@pytest.mark.parametrize("name", SIGNATURES)
def test_signatures_that_are_refused(name):
    make, reading, message = SIGNATURES[name]
    graph = make()
    with pytest.raises(ExportError) as refused:
        of_graph(graph, settings_of(), {}, reading=Reading(**reading))
    assert re.search(message, str(refused.value)), refused.value


@pytest.mark.parametrize(
    ("model", "reading", "message"),
    [
        ({"classes": (0, 1)}, {}, "class 0 for 2 objects in 2 pictures: --first-class 0 if"),
        (
            {"dtype": tf.float32, "scale": "0..1"},
            {},
            "got the most objects with 0..1 .*: --scale=0..1, or --scale=0..255",
        ),
        ({"scores": "0..100"}, {}, "scores must be probabilities, 0..1, got 80 to 90: --score-values"),
        ({"masks": "percent"}, {}, "masks must be probabilities, 0..255 or logits, got float32 .*--mask-values"),
        ({"mask_of": "image of 64"}, {}, "--mask-of image if they cover the image, --mask-of box"),
        ({"pixels_in_boxes": True, "shares": False}, {}, "boxes must be shares of the image, 0..1, got up to"),
    ],
)
def test_what_the_pictures_leave_in_doubt(model, reading, message, pictures):
    source = of_graph(finders.detection(**model), settings_of(), {}, reading=Reading(**reading))
    with pytest.raises(ExportError) as refused:
        settle(source, pictures)
    assert re.search(message, str(refused.value)), refused.value


def test_outputs_that_options_name(pictures):
    names = ("input_image", "input_image_meta", "input_anchors", "boxes", "grids")
    graph = finders.matterport(names=names)
    ambiguous = finders.graph_of(
        lambda tensors: graph.call(tensors) | {"raw": tf.zeros([1, finders.ROWS, 6])}, dict(graph.inputs)
    )
    with pytest.raises(ExportError, match="--detections and --masks"):
        of_graph(ambiguous, settings_of(**SQUARE), {})
    source = of_graph(ambiguous, settings_of(**SQUARE), {}, reading=Reading(detections="boxes", masks="grids"))
    check(settle(source, pictures), Taken("", {}, classes=(1, 3)))


@pytest.mark.parametrize("image", ["encoded image", "tf.Example"])
def test_an_encoded_image_leads_to_the_other_signature(image):
    graph = finders.detection()
    encoded = Signature({"image_bytes": tf.TensorSpec([None], tf.string, "image_bytes")}, graph.outputs)
    there = finders.Graph(encoded.inputs, encoded.outputs, None, (), image)
    with pytest.raises(
        ExportError,
        match=r"an encoded image or a tf.Example: .*--input_type=image_tensor",
    ):
        of_graph(there, settings_of(), {})
    there = finders.Graph(encoded.inputs, encoded.outputs, None, (), image, others={"bytes": encoded, "pixels": graph})
    with pytest.raises(ExportError, match="its signature pixels can be exported: --signature pixels"):
        of_graph(there, settings_of(), {})


def test_no_object_is_told():
    graph = finders.detection()
    nothing = finders.graph_of(
        lambda tensors: graph.call(tensors) | {"num_detections": tf.zeros([1])}, dict(graph.inputs)
    )
    settled = settle(of_graph(nothing, settings_of(), {}))
    assert settled.lines == ("no object in 8 pictures: give --images of your own",)
