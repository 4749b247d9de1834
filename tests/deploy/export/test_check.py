"""``check``: what an export would be, without writing it; and the page's example of a model that is wrapped."""

import re
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from deploy.export import trial
from deploy.export.__main__ import main
from deploy.export.report.segment import on_model_server
from deploy.models.shapes import bundled, coins
from tests.deploy.export import savedmodels

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras on NumPy 2
ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "deploy/export/README.md").read_text(encoding="utf-8")


def rows(told):
    """Return the cells of each line of a printed table."""
    return [re.split(r"  +", line.strip()) for line in told.splitlines()]


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    Image.fromarray(coins.photo(384)).save(folder / "coins.png")
    (folder / "notes.txt").write_text("no image")
    return folder


@pytest.mark.campaign
def test_the_bundled_model(tmp_path, photos, exported, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    assert main(["check", "--images", str(photos)]) == 0
    assert sorted(tmp_path.rglob("*")) == before
    told = capsys.readouterr().out
    assert "dialect matterport, because of the outputs mrcnn_detection, mrcnn_mask" in told
    found = rows(told)
    assert ["up", "input_image", "float32 [any, any, any, 3]", "int8 [any, any, any, 3]"] in found
    assert ["up", "input_anchors", "float32 [any, any, 4]", "-"] in found
    (_, _, model, int8) = next(row for row in found if row[:2] == ["down", "mrcnn_mask"])
    assert re.fullmatch(r"float32 \[any, \d+, 28, 28, 4\]", model), model
    assert re.fullmatch(r"int8 \[(1|any), (\d+|any), 28, 28\]", int8), int8
    picture = next(row for row in found if row[0] == "coins.png")
    assert picture[1:3] == [str(coins.COINS)] * 2
    with on_model_server(exported("int8"), bundled.SETTINGS) as segment:
        sent = segment((photos / "coins.png").read_bytes())
    up, down = (int(picture[place].replace(",", "")) for place in (4, 6))
    assert abs(up - sent.up_bytes) < 100  # names of model and signature
    assert abs(down - sent.down_bytes) < 100
    assert f"{coins.COINS} objects ({coins.COINS} circle" in told
    assert "no object" not in told


@pytest.mark.parametrize("count", [0, 3])
def test_without_photographs(tmp_path, capsys, count):
    savedmodels.save_object_detection(tmp_path / "source", savedmodels.detections(5, (7, 7), 0), count)
    assert main(["check", "--saved-model", str(tmp_path / "source")]) == 0
    told = capsys.readouterr().out
    assert "dialect object-detection, because of the outputs detection_boxes, detection_classes" in told
    found = rows(told)
    assert ["down", "raw_detection_boxes", "float32 [1, 300, 4]", "-"] in found
    pictures = [row for row in found if row[0] in trial.own_photographs()]
    assert [row[1:3] for row in pictures] == [[str(count)] * 2] * trial.PICTURES
    assert ("no object in 8 pictures: give --images" in told) == (count == 0)


@pytest.mark.parametrize("kind", ["check", "report"])
def test_a_model_that_is_not_taken_can_be_wrapped(tmp_path, photos, capsys, kind):
    module = tf.Module()
    module.serve = tf.function(lambda image: {"found": image}, input_signature=[tf.TensorSpec([1, None, None, 3])])
    tf.saved_model.save(module, str(tmp_path / "source"), {"serving_default": module.serve})
    options = ["--output", str(tmp_path / "report.html")] if kind == "report" else []
    assert main([kind, "--images", str(photos), "--saved-model", str(tmp_path / "source"), *options]) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("export: the signature must have outputs")
    page, title = re.search(r'wrap the model in a function of RGB pixels \((\S+), "(.*?)"\)', line).groups()
    assert f"\n## {title}\n" in (ROOT / page).read_text(encoding="utf-8")


BOXES = np.array([[10, 20, 30, 40], [5, 5, 50, 20]], np.float32)  # x, y, width, height in pixels
CLASSES, MASKS = np.array([[3, 1, 0], [0, 0, 1]], np.float32), np.random.default_rng(0).normal(0, 2, (2, 28, 28))


def network():
    """Return a network of the README's kind, which needs its weight: a bias that says what it finds."""
    image = keras.Input((None, None, 3), batch_size=1, name="image")
    parts = keras.layers.Dense(BOXES.size + CLASSES.size + MASKS.size, name="found")
    found = parts(0 * keras.layers.GlobalAveragePooling2D()(image))
    boxes, classes, masks = keras.ops.split(found, [BOXES.size, BOXES.size + CLASSES.size], axis=-1)
    shapes = (1, *BOXES.shape), (1, *CLASSES.shape), (1, *MASKS.shape)
    outputs = [keras.ops.reshape(part, shape) for part, shape in zip((boxes, classes, masks), shapes, strict=True)]
    return keras.Model(image, outputs)


def test_the_example_of_the_page_wraps_a_network(tmp_path, monkeypatch, capsys):
    (code,) = re.findall(r"```python\n(# mine.py\n.*?)```", PAGE, re.DOTALL)
    assert len(code.splitlines()) < 35
    (tmp_path / "mine.py").write_text(code)
    (tmp_path / "network.py").write_text(f"from {__name__} import network\n")
    model = network()
    weights = np.concatenate([BOXES.ravel(), CLASSES.ravel(), MASKS.ravel()])
    model.get_layer("found").bias.assign(weights)
    model.save_weights(tmp_path / "network.weights.h5")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("mine", "network"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    (command,) = re.findall(r"python -m deploy\.export (check --builder .*) --images photos\n", PAGE)
    assert main(command.split()) == 0
    assert "dialect object-detection" in capsys.readouterr().out
    assert main(["int8", *command.split()[1:], "--output", "out"]) == 0
    serve = tf.saved_model.load("out/1").signatures["serving_default"]
    outputs = {
        name: tensor.numpy()[0] for name, tensor in serve(input_image=tf.zeros([1, 80, 100, 3], tf.int8)).items()
    }
    x, y, width, height = BOXES.T
    expected = np.stack([y / 80, x / 100, (y + height) / 80, (x + width) / 100], axis=-1)
    np.testing.assert_allclose(outputs["mrcnn_detection"][:, :4], expected, atol=1e-5)
    softmax = np.exp(CLASSES) / np.exp(CLASSES).sum(-1, keepdims=True)
    np.testing.assert_allclose(outputs["mrcnn_detection"][:, 4], CLASSES.argmax(-1) + 1)
    np.testing.assert_allclose(outputs["mrcnn_detection"][:, 5], softmax.max(-1), atol=1e-5)
    assert np.abs(outputs["mrcnn_mask"] / 127 - 1 / (1 + np.exp(-MASKS))).max() <= 0.51 / 127
