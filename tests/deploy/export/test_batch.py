"""Several images in one run of an export, joined and padded as TensorFlow Serving does it: as each alone.

The oracle is the same export, asked for one image.
"""

import dataclasses
import io
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest
import skimage.data
import tensorflow as tf
from PIL import Image
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

from deploy.export import signatures, write
from deploy.export.graphs import Graph
from deploy.export.settle import settle
from deploy.export.source import of_graph
from deploy.export.trial import codes_of
from deploy.model_server.batching import Parameters
from deploy.model_server.servable import Servable
from deploy.models.shapes import bundled, export
from handler import pipeline
from handler.backend.channel import Channel
from handler.backend.client import ModelClient
from handler.backend.wire import ModelSpec
from handler.image.decode import Limits, Photo
from handler.model import mold
from handler.options import Options
from tests.support.processes import StandIn

OUTPUTS = ("mrcnn_detection", "mrcnn_mask")
SIZES = ((303, 384), (257, 320), (200, 201), (303, 384))  # two frames of 320 x 384
CLIENTS, REQUESTS = 16, 96


def coins(height, width, shift=0):
    """Return pixels uint8 [height, width, 3] of coins."""
    pixels = np.roll(np.repeat(skimage.data.coins()[..., None], 3, 2), shift, 1)
    return np.asarray(Image.fromarray(pixels).resize((width, height)))


def joined(arrays):
    """Return arrays [h, w, ...] as one, the smaller ones with their first value behind their own."""
    sides = np.max([array.shape for array in arrays], axis=0)
    return np.stack(
        [
            np.pad(one, [(0, a - b) for a, b in zip(sides, one.shape, strict=True)], constant_values=one.flat[0])
            for one in arrays
        ]
    )


class Model:
    """A version as TensorFlow Serving runs it."""

    def __init__(self, folder):
        self.servable = Servable.load(folder)

    def __call__(self, prefix, **inputs):
        name = max((name for name in self.servable.signatures if name.startswith(prefix)), key=len)
        found = self.servable.signatures[name]
        fetches = [found.outputs[output].name for output in OUTPUTS]
        return self.servable.run({found.inputs[name].name: array for name, array in inputs.items()}, fetches)


@pytest.fixture(scope="module")
def model(exported):
    (folder,) = exported("int8").glob("[0-9]*")
    return Model(folder)


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """Return the base path of an int8 export that runs up to eight images together."""
    base, settled = tmp_path_factory.mktemp("together"), settle(export.source(), batch=True)
    write.write(signatures.int8(settled.source, max_batch_size=8), base, settled.examples)
    return base


def sized(images):
    """Return the inputs for images int8 [h, w, 3]."""
    sizes = np.array([image.shape[:2] for image in images], np.int32)
    return {"input_image": joined(images), "image_size": sizes}


def test_images_of_different_sizes(model):
    """To the last bit: the graph takes one after the other."""
    images = [codes_of(coins(*size_hw)) for size_hw in SIZES]
    together = model("serving_default", **sized(images))
    for place, image in enumerate(images):
        alone = model("serving_default", **sized([image]))
        assert (alone[0][0, :, 4] > 0).sum() > 5
        assert all(np.array_equal(every[place], one[0]) for every, one in zip(together, alone, strict=True))


@pytest.mark.campaign
def test_images_in_frames_of_one_size(together):
    """They run as one batch, whose sums TensorFlow rounds otherwise. Both signatures then give the same bits."""
    model = Model(together / "1")
    photos, images = [], []
    for shift, (height, width) in enumerate(((303, 384), (310, 380))):
        buffer = io.BytesIO()
        Image.fromarray(coins(height, width, 31 * shift)).save(buffer, "JPEG")
        photos.append(buffer.getvalue())
        decoded = Photo.of(Image.open(io.BytesIO(buffer.getvalue())).convert("RGB"))
        images.append(codes_of(mold.mold(decoded, bundled.SETTINGS.resize, padded=False)[0]))
    rows, masks = model("serving_default", **sized(images))
    for place, image in enumerate(images):
        own_rows, own_masks = model("serving_default", **sized([image]))
        np.testing.assert_allclose(rows[place], own_rows[0], atol=1e-5)
        assert np.abs(masks[place].astype(int) - own_masks[0]).max() <= 1
    jpegs = model("segment_jpeg", image_jpeg=np.array(photos, object), orientation=np.ones(2, np.int32))
    assert np.array_equal(jpegs[0], rows)
    assert np.array_equal(jpegs[1], masks)


@pytest.mark.campaign
def test_each_size_of_a_batch_has_a_record_to_warm_up(together):
    extra = together / "1" / "assets.extra"
    assert (extra / "tf_serving_warmup_requests").stat().st_size < 6 << 20
    records = tf.data.TFRecordDataset(str(extra / "tf_serving_warmup_requests"))
    requests = [PredictionLog.FromString(record.numpy()).predict_log.request for record in records]
    for size, request in zip((1, 1, 2, 2, 4, 4, 8, 8), requests, strict=True):
        tensors = {name: tf.make_ndarray(tensor) for name, tensor in request.inputs.items()}
        assert {len(tensor) for tensor in tensors.values()} == {size}
        if "image_size" in tensors:
            assert tensors["input_image"].shape == (size, 1024, 1024, 3)
            assert tensors["image_size"].tolist() == [[1024, 1024]] * size
    parameters = Parameters(8, 0, 100, allowed_batch_sizes=(1, 2, 4, 8), pad_variable_length_inputs=True)
    assert Parameters.from_file(extra / "batching_parameters.txt") == parameters


@pytest.mark.parametrize("kind", ["float32", "int8-cast"])
def test_frames_of_different_sizes_with_meta_and_anchors(exported, kind):
    (folder,) = exported(kind).glob("[0-9]*")
    model, resize = Model(folder), bundled.SETTINGS.resize
    requests = []
    for size_hw in SIZES[:3]:
        pixels, frame = mold.mold(Photo.of(Image.fromarray(coins(*size_hw))), resize, padded=True)
        image = pixels.astype(np.float32) - np.array(bundled.SETTINGS.mean, np.float32)
        requests.append(
            {
                "input_image": image if kind == "float32" else np.clip(image, -128, 127).astype(np.int8),
                "input_image_meta": mold.meta(frame, 4)[0],
                "input_anchors": mold.anchors(frame.frame_hw, bundled.SETTINGS.anchors)[0],
            }
        )
    together = model("serving_default", **{name: joined([one[name] for one in requests]) for name in requests[0]})
    for place, request in enumerate(requests):
        alone = model("serving_default", **{name: array[None] for name, array in request.items()})
        assert (alone[0][0, :, 4] > 0).any()
        assert all(np.array_equal(every[place], one[0]) for every, one in zip(together, alone, strict=True))


def detector(batch):
    """Return a detection model that finds as many objects as the first pixel of an image says."""

    def call(tensors):
        image = tf.cast(tensors["image"], tf.float32)
        count = tf.cast(tf.reduce_max(image[:, 0, 0, 0]), tf.int32)
        rows = tf.cast(tf.range(count), tf.float32) / 100
        size = tf.shape(image)[0]
        place = tf.tile(rows[None], [size, 1])
        found = place < image[:, :1, 0, 0] / 100
        boxes = tf.stack([place, place, place + 0.5, place + 0.5], -1)
        return {
            "detection_boxes": boxes,
            "detection_classes": tf.where(found, 1.0, 0.0),
            "detection_scores": tf.where(found, tf.reduce_mean(image, [1, 2, 3])[:, None] / 255, 0.0),
            "detection_masks": tf.tile((1 - place)[..., None, None], [1, 1, 2, 2]),
        }

    image = tf.TensorSpec([batch, None, None, 3], tf.uint8, "image")
    shapes = {"boxes": (4,), "classes": (), "scores": (), "masks": (2, 2)}
    outputs = {f"detection_{name}": tf.TensorSpec([batch, None, *shape]) for name, shape in shapes.items()}
    return Graph({"image": image}, outputs, call=call, owned=(), description="a detector")


def picture(count, height=8, width=8):
    return codes_of(np.full((height, width, 3), count, np.uint8))


def source_of(graph, **fields):
    source = of_graph(graph, bundled.SETTINGS, {})
    reading = dataclasses.replace(source.reading, first_class=1, mask_values="0..1", mask_of="box")
    return dataclasses.replace(source, reading=reading, **fields)


@pytest.mark.parametrize("takes_batch", [False, True])
def test_zeros_fill_the_rows_of_an_image_with_fewer_objects(takes_batch):
    source = source_of(detector(None if takes_batch else 1), takes_batch=takes_batch)
    functions = signatures.int8(source).functions
    (name,) = (name for name in functions if name.startswith("serving_default_"))
    for images in (
        [picture(3), picture(5), picture(1)],
        [picture(3), picture(9, 20, 30)],
        [picture(0), picture(0)],
        [picture(4, 5, 6)],
    ):
        rows, masks = (functions[name](**sized(images))[output].numpy() for output in OUTPUTS)
        assert rows.shape[:2] == masks.shape[:2] == (len(images), max(int(image[0, 0, 0]) + 128 for image in images))
        for place, image in enumerate(images):
            alone = functions["serving_default"](tf.constant(image[None]))
            count = int(image[0, 0, 0]) + 128
            assert alone["mrcnn_detection"].shape == (1, count, 6)
            np.testing.assert_allclose(rows[place, :count], alone["mrcnn_detection"][0], atol=1e-6)
            assert np.array_equal(masks[place, :count], alone["mrcnn_mask"][0])
            assert not rows[place, count:].any()
            assert not masks[place, count:].any()


def test_a_batch_of_one_size_without_the_input_for_sizes(model):
    images = [codes_of(coins(200, 201, shift)) for shift in (0, 31)]
    found = model.servable.signatures["serving_default"]
    feeds = {found.inputs["input_image"].name: np.stack(images)}
    rows, _ = model.servable.run(feeds, [found.outputs[output].name for output in OUTPUTS])
    for place, image in enumerate(images):
        np.testing.assert_allclose(rows[place], model("serving_default", **sized([image]))[0][0], atol=1e-5)


def pictures(folder):
    """Write a folder of one picture, in which the detector finds objects."""
    folder.mkdir()
    Image.new("RGB", (40, 30), (90, 90, 90)).save(folder / "one.png")
    return folder


def test_the_source_is_tried_with_two_images(tmp_path):
    """A free batch axis says nothing: a graph that answers the first image alone is run for each."""
    images = pictures(tmp_path / "pictures")

    def of_the_first(tensors):
        return {name: tensor[:1] for name, tensor in detector(None).call(tensors).items()}

    def of_the_second(tensors):
        return {name: tensor[::-1] for name, tensor in detector(None).call(tensors).items()}

    def of_one(tensors):
        tf.debugging.assert_equal(tf.shape(tensors["image"])[0], 1)
        return detector(None).call(tensors)

    free = detector(None)
    assert settle(source_of(free), images, batch=True).source.takes_batch
    assert not settle(source_of(free), images).source.takes_batch
    assert not settle(source_of(detector(1)), images, batch=True).source.takes_batch
    for wrong in (of_the_first, of_one):
        settled = settle(source_of(dataclasses.replace(free, call=wrong)), images, batch=True)
        assert not settled.source.takes_batch
        assert "does not take two images at once" in settled.lines[-1]
    noise = np.random.default_rng(3).integers(90, 92, (30, 40, 3), dtype=np.uint8)
    noise[0, 0], noise[0, -1] = 92, 80  # the mirror image has fewer objects
    Image.fromarray(noise).save(images / "one.png")
    assert settle(source_of(free), images, batch=True).source.takes_batch
    reversing = dataclasses.replace(free, call=of_the_second)
    assert not settle(source_of(reversing), images, batch=True).source.takes_batch


@pytest.fixture(scope="module")
def bases(exported, together):
    """Return the base path of each export, and of an int8 export that runs several images together."""
    return {**{kind: exported(kind) for kind in ("float32", "int8-cast", "int8")}, "int8, together": together}


def ask_all(target, photos, transport):
    """Return what CLIENTS at once find, by the function's client and stages, and photographs a second."""
    client = ModelClient(Channel(target, "m"), ModelSpec("m"), 120.0, bundled.SETTINGS)

    def ask(data):
        return client.run(partial(pipeline.segment, data, Options(), limits=Limits(), transport=transport)).instances

    try:
        with ThreadPoolExecutor(CLIENTS) as pool:
            list(pool.map(ask, photos[:CLIENTS]))
            start = time.monotonic()
            found = list(pool.map(ask, photos))
            return found, len(photos) / (time.monotonic() - start)
    finally:
        client.close()


def is_alike(one, other):
    """Tell whether two lists of instances say the same: rounding may change a mask's edge and a score's last digits."""
    return len(one) == len(other) and all(
        a.class_id == b.class_id
        and abs(a.score - b.score) < 1e-3
        and np.abs(np.subtract(a.box, b.box)).max() <= 1
        and abs(a.area - b.area) <= 2 + 0.01 * a.area
        for a, b in zip(one, other, strict=True)
    )


@pytest.mark.campaign
@pytest.mark.parametrize(
    ("kind", "transport"),
    [
        ("float32", "int8"),
        ("int8-cast", "int8"),
        ("int8", "int8"),
        ("int8", "jpeg"),
        ("int8, together", "int8"),
        ("int8, together", "jpeg"),
    ],
)
@pytest.mark.parametrize("sizes", [SIZES, ((303, 384),)], ids=["different sizes", "one size"])
def test_16_clients_and_batches(bases, tmp_path, kind, transport, sizes):
    photos = []
    for number in range(REQUESTS):
        buffer = io.BytesIO()
        height, width = sizes[number % len(sizes)]
        Image.fromarray(coins(height, width, number)).save(buffer, "JPEG")
        photos.append(buffer.getvalue())
    parameters = tmp_path / "batching.txt"
    parameters.write_text(write.batching_parameters((1, 2, 4, 8)))
    flags = ["--model_name=m", f"--model_base_path={bases[kind]}", "--grpc_max_threads=33"]
    rates, found = {}, {}
    for batching in (False, True):
        more = ["--enable_batching", f"--batching_parameters_file={parameters}"] if batching else []
        with StandIn(*flags, *more, log=tmp_path / f"{batching}.log") as server:
            found[batching], rates[batching] = ask_all(f"{server.host}:{server.port}", photos, transport)
    print(f"{kind}, {transport}, {len(sizes)} sizes: {rates[False]:.1f} photographs/s, in batches {rates[True]:.1f}")  # noqa: T201 - shown by -s
    assert min(map(len, found[False])) > 5
    assert all(map(is_alike, found[True], found[False]))
    if kind == "int8":
        assert found[True] == found[False]
