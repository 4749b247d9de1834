"""The model of people: TensorFlow Lite's interpreter is the oracle for both networks. The wheel is downloaded."""

import json
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from pycocotools import mask as coco
from scipy.ndimage import map_coordinates
from scipy.special import expit
from skimage import data

from deploy.local import exports
from deploy.local.models import PEOPLE
from deploy.models.people import export, network, wheel
from deploy.models.people.squares import crops
from deploy.tools.processes import ROOT
from tests.support.masks import paint

pytestmark = [
    pytest.mark.campaign,
    pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated.*:UserWarning"),
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),  # pycocotools on NumPy 2
]

ASTRONAUT = data.astronaut()
PAIR = np.concatenate([ASTRONAUT, ASTRONAUT[:, ::-1]], 1)


@pytest.fixture(scope="module")
def files():
    return wheel.networks(export.FOLDER)


@pytest.fixture(scope="module")
def model(files):
    return network.People(*files)


@pytest.fixture(scope="module")
def int8(tmp_path_factory):
    exports.ensure(ROOT / "build", tmp_path_factory.mktemp("logs"), ("int8",), PEOPLE)
    (version,) = exports.base_path(ROOT / "build", "int8", PEOPLE).iterdir()
    return tf.saved_model.load(version).signatures["serving_default"]


def interpret(content, image):
    """Return the outputs of TensorFlow Lite by name."""
    interpreter = tf.lite.Interpreter(model_content=content)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image)
    interpreter.invoke()
    return {one["name"]: interpreter.get_tensor(one["index"]) for one in interpreter.get_output_details()}


def iou(one, other):
    return (one & other).sum() / (one | other).sum()


def people(model, image):
    """Return scores, boxes y1, x1, y2, x2 in whole pixels, and masks over them, of the people in an image."""
    found = {name: tensor.numpy() for name, tensor in model.serve(tf.constant(image[None])).items()}
    assert found["num_detections"][0] == len(found["detection_scores"][0])
    return found["detection_scores"][0], found["detection_boxes"][0], found["detection_masks"][0]


def painted(mask, box, image):
    """Return the pixels of an image that belong to a mask over a box in 0..1, both rounded outwards to pixels."""
    height, width = image.shape[:2]
    edges = np.asarray(box) * [height, width, height, width]
    return paint(mask, np.concatenate([np.floor(edges[:2]), np.ceil(edges[2:])]).astype(int), (height, width)) > 0.5


@pytest.mark.parametrize(("which", "side", "low"), [(0, 224, -1), (1, 256, 0)])
def test_a_network_answers_as_the_interpreter(files, model, which, side, low):
    image = np.random.default_rng(which).uniform(low, 1, (1, side, side, 3)).astype(np.float32)
    expected = interpret(files[which], image)
    found = tf.function((model.detect, model.landmarks)[which], autograph=False)(image)
    assert set(found) == set(expected)
    for name, tensor in expected.items():
        error = np.abs(found[name] - tensor).max() / np.ptp(tensor) if np.ptp(tensor) else 0
        assert error < 1e-3


def test_the_astronaut_has_the_interpreters_mask(files, model):
    image = tf.constant(ASTRONAUT[None], tf.float32)
    squares = model.find(image).numpy()
    crop = crops(image, squares, 256, "NEAREST").numpy() / 255
    expected = interpret(files[1], crop)
    logits = expected["Identity_2"][0, ..., 0]
    cx, cy, side, angle = squares[0]
    y, x = np.mgrid[:512, :512] + 0.5
    x, y = (x - cx) / side, (y - cy) / side
    u, v = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
    place = [(v + 0.5) * 256 - 0.5, (u + 0.5) * 256 - 0.5]
    own = map_coordinates(expit(logits), place, order=1) > 0.5

    (score,), (box,), (mask,) = people(model, ASTRONAUT)
    assert score == pytest.approx(expected["Identity_1"][0, 0], abs=1e-3)
    assert score > 0.98
    assert iou(painted(mask, box, ASTRONAUT), own) > 0.98


def test_she_and_her_mirror_image_are_two(model):
    scores, boxes, masks = people(model, PAIR)
    assert len(scores) == 2
    assert min(scores) > 0.9
    left, right = sorted((painted(mask, box, PAIR) for mask, box in zip(masks, boxes, strict=True)), key=left_edge)
    assert iou(left, right[:, ::-1]) > 0.9
    assert left[:, 512:].sum() < 0.05 * left.sum()


def left_edge(mask):
    return np.flatnonzero(mask.any(0))[0]


def small(side_px):
    """Return the astronaut, side_px wide and high, in a grey image of 1024 x 1024."""
    image = np.full((1024, 1024, 3), 128, np.uint8)
    image[300 : 300 + side_px, 400 : 400 + side_px] = np.asarray(Image.fromarray(ASTRONAUT).resize((side_px, side_px)))
    return image


@pytest.mark.parametrize("quarters", range(4))
def test_she_is_found_in_a_corner_however_she_is_turned(model, quarters):
    for turned in (np.rot90(ASTRONAUT, quarters), np.rot90(small(384), quarters)):
        scores, _, _ = people(model, turned)
        assert len(scores) == 1
        assert scores[0] > 0.9


@pytest.mark.parametrize("name", ["coffee", "chelsea", "coins"])
def test_in_a_photograph_without_people_nothing_is_found(model, name):
    image = getattr(data, name)()
    scores, boxes, masks = people(model, image if image.ndim == 3 else np.repeat(image[..., None], 3, 2))
    assert (len(scores), boxes.shape, masks.shape[0]) == (0, (0, 4), 0)


def test_what_the_model_card_says_that_it_misses(model):
    profile = np.repeat(data.camera()[..., None], 3, 2)
    for image in (small(256), profile, np.tile(ASTRONAUT, (2, 4, 1))):
        assert len(people(model, image)[0]) == 0


@pytest.mark.parametrize("image", [ASTRONAUT, PAIR, ASTRONAUT[:, :, ::-1], ASTRONAUT[:400, 50:]], ids=range(4))
def test_masks_of_the_int8_export_are_those_of_float32(model, int8, image):
    outputs = int8(input_image=tf.constant((image.astype(np.int16) - 128).astype(np.int8)[None]))
    rows, codes = outputs["mrcnn_detection"][0].numpy(), outputs["mrcnn_mask"][0].numpy()
    scores, boxes, masks = people(model, image)
    assert len(scores) == len(rows) > 0
    np.testing.assert_allclose(rows[:, 5], scores, atol=1e-5)
    for row, code, box, mask in zip(rows, codes, boxes, masks, strict=True):
        overlap = iou(painted(code / 127, row[:4], image), painted(mask, box, image))
        assert overlap >= 0.999


def test_the_demo_finds_the_astronaut(model, tmp_path):
    command = [sys.executable, "-m", "deploy.local.demo", "--model=people", f"--build={tmp_path}"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=400, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "1 person" in ended.stdout
    answer = json.loads((tmp_path / "demo" / "result.json").read_bytes())
    (instance,) = answer["instances"]
    assert instance["label"] == "person"
    _, (edges,), (mask,) = people(model, ASTRONAUT)
    x, y, width, height = (instance["box"][side] for side in ("x", "y", "width", "height"))
    box = np.array([y, x, y + height, x + width])
    np.testing.assert_allclose(box, edges * 512, atol=1)
    assert iou(coco.decode(instance["mask"]).astype(bool), paint(mask, box, (512, 512)) > 0.5) >= 0.999
