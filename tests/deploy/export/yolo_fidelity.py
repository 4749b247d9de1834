"""What exports of a YOLO keep and save; ``python -m tests.deploy.export.yolo_fidelity`` prints two tables.

The first has a row for each side of a mask, with IoUs with masks of upstream's default, and with those of its option
``retina_masks``. The second counts the bytes of one answer.
"""

import io
import itertools
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import msgspec
import numpy as np
import tensorflow as tf
from PIL import Image
from tensorflow_serving.apis import model_pb2

from deploy.export import signatures, write, yolo
from deploy.export.graphs import from_saved_model
from deploy.export.report.segment import on_model_server
from deploy.export.settle import settle
from deploy.export.source import of_graph
from deploy.model_server.predict import encode_response
from deploy.tools.tables import table
from handler import pipeline
from handler.config import Config
from handler.image.decode import Limits
from handler.options import Options
from handler.types import Prediction
from tests.deploy.export import yolo_numpy
from tests.deploy.export.yolo_networks import Network, photograph, save
from tests.support.readers import coco_decode, iou

FORMS = {
    "v8": {"form": "raw", "boxes": "pixels", "channels": "last"},
    "11": {"form": "raw", "boxes": "shares", "channels": "first"},
    "end-to-end": {"form": "end-to-end", "boxes": "pixels", "channels": "last"},
}
PHOTOGRAPHS = [(1000, 1000), (1080, 1920)]
SIDES = (28, 56, 80, 112, 160)
SEEDS = range(3)
SCORE_DIFFERENCE = 2e-3  # the photograph is rounded in another way before it reaches the network


@dataclass
class Difference:
    """Of each detection: the greatest difference of a side of its box, in pixels, and the IoUs of its mask."""

    boxes_px: list
    ious: list
    native_ious: list


def png(image):
    """Encode an image uint8 [h, w, 3]."""
    body = io.BytesIO()
    Image.fromarray(image).save(body, "PNG", compress_level=1)
    return body.getvalue()


def read(folder):
    """Return the SavedModel as a source."""
    return settle(of_graph(from_saved_model(folder, "serving_default"), Config.from_environ({}).matterport, {})).source


def upstream(network, image):
    """Return what upstream finds in an image, by its default and with its option ``retina_masks``."""
    run = tf.function(network.__call__, input_signature=[network.input_spec])

    def heads(images):
        return [tensor.numpy() for tensor in run(tf.constant(images))]

    return tuple(yolo_numpy.predict(heads, image, network, native=native) for native in (False, True))


def compare(instances, expected, native):
    """Compare what the function answers with what upstream finds."""
    assert sorted(one.class_id for one in instances) == sorted(expected.classes + 1)
    difference = Difference([], [], [])
    for one in instances:
        y1, x1, y2, x2 = one.box
        same_class = np.flatnonzero(expected.classes == one.class_id - 1)
        distances = np.abs(expected.boxes[same_class] - [x1, y1, x2, y2]).max(1)
        place = same_class[distances.argmin()]
        assert abs(one.score - expected.scores[place]) < SCORE_DIFFERENCE
        mask = coco_decode(msgspec.to_builtins(one.mask))
        difference.boxes_px.append(distances.min())
        difference.ious.append(iou(mask, expected.masks[place]))
        difference.native_ious.append(iou(mask, native.masks[place]))
    return difference


def in_process(source, mask_px):
    """Return a function from an encoded image to instances: the int8 signature and the function's own pipeline."""
    with mock.patch.object(yolo, "MASK_PX", mask_px):
        exported = signatures.int8(source)
        serve = exported.functions[signatures.SERVING]
        serve(input_image=tf.zeros([1, 8, 8, 3], tf.int8))  # traced with that side
    contract = signatures.int8_contract(source, image_size=False)

    def predict(inputs):
        outputs = serve(**{name: tf.constant(array) for name, array in inputs.items()})
        return Prediction({name: tensor.numpy() for name, tensor in outputs.items()}, 1)

    return lambda data: pipeline.segment(data, Options(), contract, predict, Limits()).instances


def measure(frame_px):
    """Return the differences over all forms and photographs, by the side of a mask."""
    total = {mask_px: Difference([], [], []) for mask_px in SIDES}
    for form in FORMS.values():
        network = Network((frame_px, frame_px), **form)
        with tempfile.TemporaryDirectory() as folder:
            source = read(save(Path(folder), network))
            ask = {mask_px: in_process(source, mask_px) for mask_px in SIDES}
            for size_hw, seed in itertools.product(PHOTOGRAPHS, SEEDS):
                image = photograph(size_hw, seed)
                expected, native = upstream(network, image)
                for mask_px, every in total.items():
                    one = compare(ask[mask_px](png(image)), expected, native)
                    every.boxes_px += one.boxes_px
                    every.ious += one.ious
                    every.native_ious += one.native_ious
    return total


def raw_bytes(source, network, image):
    """Return the bytes of the response that would carry the heads and prototypes of an image."""
    framed = yolo_numpy.letterbox(image, network.frame_hw)[None].astype(np.float32) / 255
    raw = {name: tensor.numpy() for name, tensor in source.graph.call({"images": tf.constant(framed)}).items()}
    return len(encode_response(raw, model_pb2.ModelSpec(name="model"), as_content=False))


def describe_bytes():
    """Return the table of bytes down, for one photograph of 16:9 and as served by the stand-in."""
    rows = []
    for frame_px, (name, form) in itertools.product((640, 1024), FORMS.items()):
        network, image = Network((frame_px, frame_px), **form), photograph(PHOTOGRAPHS[1], seed=1)
        with tempfile.TemporaryDirectory() as folder:
            source = read(save(Path(folder, "source"), network))
            write.write(signatures.int8(source), Path(folder, "model"))
            with on_model_server(Path(folder, "model"), source.settings) as segment:
                found = segment(png(image))
            raw = raw_bytes(source, network, image)
        most = raw // (10 * yolo.MASK_PX**2)
        counts = [f"{len(found.instances)}", f"{raw:,}", f"{found.down_bytes:,}", f"1/{raw / found.down_bytes:.0f}"]
        rows.append([f"{name}, {frame_px} x {frame_px}", *counts, f"{most}"])
    return table(["network", "objects", "raw, bytes", "int8, bytes", "", "1/10 up to objects"], rows)


def describe():
    """Return the table of masks."""
    rows = []
    for frame_px in (640, 1024):
        for mask_px, found in measure(frame_px).items():
            figures = (np.mean(found.ious), min(found.ious), np.mean(found.native_ious), min(found.native_ious))
            cells = [f"{mask_px}", f"{mask_px**2:,}", f"{len(found.ious)}", *(f"{figure:.4f}" for figure in figures)]
            rows.append([f"{frame_px} x {frame_px}", *cells, f"{max(found.boxes_px):.2f}"])
    head = ["model's size", "side", "bytes", "objects", "IoU mean", "min", "retina mean", "min", "boxes, px"]
    return table(head, rows)


if __name__ == "__main__":
    sys.stdout.write(f"{describe()}\n\n{describe_bytes()}\n")
