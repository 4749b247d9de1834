"""Exports of YOLOs against upstream's own procedure in NumPy; the networks are tests.deploy.export.yolo_networks."""

import itertools
import json
import re
from typing import get_args

import cv2
import numpy as np
import pytest
import tensorflow as tf

from deploy.export import answer, signatures, write, yolo
from deploy.export.__main__ import main
from deploy.export.graphs import ExportError, Graph
from deploy.export.reading import Boxes, Reading
from deploy.export.report.segment import on_model_server
from deploy.export.settle import settle
from deploy.export.source import of_graph
from handler.config import Config
from handler.model.contract import ModelContract, Resize
from tests.deploy.export import yolo_numpy
from tests.deploy.export.yolo_fidelity import FORMS, PHOTOGRAPHS, compare, png, raw_bytes, read, upstream
from tests.deploy.export.yolo_networks import CLASSES, Network, photograph, save

DAILY = [(640, "v8", (1080, 1920)), (640, "11", (1000, 1000)), (640, "end-to-end", (1080, 1920))]
CASES = [*itertools.product((640, 1024), FORMS, [*PHOTOGRAPHS, (600, 450)])]
SETTINGS = Config.from_environ({}).matterport
SMALL = (160, 160)
PLACES = 400 + 100 + 25


@pytest.mark.parametrize(
    ("frame_px", "form", "size_hw"),
    [pytest.param(*case, marks=() if case in DAILY else pytest.mark.campaign) for case in CASES],
)
def test_the_function_finds_what_upstream_finds(tmp_path, frame_px, form, size_hw):
    network = Network((frame_px, frame_px), **FORMS[form])
    source = read(save(tmp_path / "source", network))
    write.write(signatures.int8(source), tmp_path / "model")
    image = photograph(size_hw, seed=1)
    with on_model_server(tmp_path / "model", SETTINGS) as segment:
        found = segment(png(image))
    difference = compare(found.instances, *upstream(network, image))
    assert len(difference.ious) >= 5
    assert max(difference.boxes_px) <= 1
    assert np.mean(difference.ious) >= 0.98
    assert found.down_bytes * 10 <= raw_bytes(source, network, image)


def constant(head, prototypes, frame_hw=SMALL, image=None):
    """Return a graph that answers constants."""
    outputs = {"output_0": tf.constant(head, tf.float32), "output_1": tf.constant(prototypes, tf.float32)}
    return Graph(
        inputs={"images": image or tf.TensorSpec([1, *frame_hw, 3], tf.float32, "images")},
        outputs={name: tf.TensorSpec(tensor.shape, tensor.dtype) for name, tensor in outputs.items()},
        call=lambda tensors: outputs,
        owned=(),
        description="constants",
    )


def crowd(seed, classes=3, depth=32):
    """Return a raw head [1, 4 + classes + depth, places] of boxes that overlap in every degree, and prototypes."""
    rng = np.random.default_rng(seed)
    sizes = rng.uniform(20, 60, (PLACES, 2))
    rows = np.concatenate(
        [rng.uniform(20, 140, (PLACES, 2)), sizes, rng.random((PLACES, classes)), rng.normal(size=(PLACES, depth))], 1
    )
    return rows.T[None].astype(np.float32), rng.normal(size=(1, 40, 40, depth)).astype(np.float32)


def settled(graph, **options):
    """Return a graph as a source whose tensors are understood."""
    return settle(of_graph(graph, SETTINGS, {}, reading=Reading(**options))).source


def answers(graph, **options):
    """Return rows [n, 6] and masks [n, h, w] of a graph for a picture as large as its frame."""
    source = settled(graph, **options)
    rows, masks = answer.answer(source, tf.zeros([1, *source.frame_hw, 3], tf.int32))
    return rows.numpy()[0], masks.numpy()[0]


@pytest.mark.parametrize(
    "options",
    [{}, {"confidence": 0.9}, {"iou": 0.45}, {"iou": 0.0}, {"max_detections": 7}, {"confidence": 1.0}],
    ids=str,
)
def test_suppression_is_upstreams(options):
    head, prototypes = crowd(seed=4)
    rows, masks = answers(constant(head, prototypes), **options)
    chosen = {"confidence": 0.25, "iou": 0.7, "max_detections": 300, **options}
    candidates = yolo_numpy.candidate_boxes(head[0].T, 32, 1, chosen["confidence"])
    boxes, scores, classes, _ = yolo_numpy.suppress(candidates, chosen["iou"], chosen["max_detections"])
    assert len(rows) == len(masks) == len(scores)
    np.testing.assert_allclose(rows[:, 5], scores)
    np.testing.assert_array_equal(rows[:, 4], classes + 1)
    np.testing.assert_allclose(rows[:, [1, 0, 3, 2]] * 160, np.clip(boxes, 0, 160), atol=1e-3)


@pytest.mark.parametrize(
    ("form", "boxes", "channels"),
    [*itertools.product(("raw", "transposed"), ("pixels", "shares"), ("first", "last"))],
)
def test_every_layout_gives_the_same(form, boxes, channels):
    head, prototypes = crowd(seed=5)
    expected_rows, expected_masks = answers(constant(head, prototypes))
    head[:, :4] /= 160 if boxes == "shares" else 1
    head = head.transpose(0, 2, 1) if form == "transposed" else head
    prototypes = prototypes.transpose(0, 3, 1, 2) if channels == "first" else prototypes
    rows, masks = answers(constant(head, prototypes))
    assert len(rows) > 100
    np.testing.assert_allclose(rows, expected_rows, atol=1e-5)
    np.testing.assert_allclose(masks, expected_masks, atol=1e-3)


def test_masks_are_sampled_at_the_centres_of_their_cells():
    """The oracle: OpenCV enlarges the whole mask to ten times the frame; each sample takes the nearest value."""
    head, prototypes = crowd(seed=6)
    prototypes = np.stack(
        [np.linspace(-3, 3, 40)[:, None] * np.ones(40), np.ones((40, 1)) * np.linspace(-2, 2, 40)], -1
    )
    head = np.concatenate([head[:, :7], np.random.default_rng(0).normal(size=(1, 2, PLACES))], 1)
    _, masks = answers(constant(head, prototypes[None]))
    boxes, _, _, coefficients = yolo_numpy.suppress(yolo_numpy.candidate_boxes(head[0].T, 2, 1, 0.25), 0.7, 300)
    share = (np.arange(yolo.MASK_PX) + 0.5) / yolo.MASK_PX
    for box, mask, one in zip(boxes[:40], masks[:40], coefficients[:40], strict=True):
        whole = yolo_numpy.cut(yolo_numpy.probabilities(one, prototypes.transpose(2, 0, 1)), box / 4)
        large = cv2.resize(whole.astype(np.float32), (1600, 1600), interpolation=cv2.INTER_LINEAR)
        left, top, right, bottom = np.clip(box, 0, 160)
        at = [((start + share * (end - start)) * 10).astype(int) for start, end in ((top, bottom), (left, right))]
        np.testing.assert_allclose(mask, large[np.ix_(*at)], atol=0.026)  # 1/40 a pixel at most, half a pixel off


def end_to_end(**columns):
    """Return a head of 300 rows, with some of its columns changed."""
    rng = np.random.default_rng(7)
    head = rng.random((1, 300, 38)).astype(np.float32)
    head[..., :2], head[..., 2:4], head[..., 5] = 20 + 80 * head[..., :2], 110 + 40 * head[..., 2:4], 3
    for place, value in columns.items():
        head[..., int(place.strip("c"))] = value
    return head


def test_an_end_to_end_head_is_only_filtered():
    head, (_, prototypes) = end_to_end(), crowd(seed=8)
    rows, _ = answers(constant(head, prototypes), confidence=0.5, max_detections=100)
    expected = head[0][head[0][:, 4] > 0.5][:100]
    np.testing.assert_allclose(rows[:, 5], expected[:, 4])
    np.testing.assert_allclose(rows[:, [1, 0, 3, 2]] * 160, expected[:, :4], rtol=1e-5)
    assert (rows[:, 4] == 4).all()


def changed(place, value):
    """Return the crowd with one row of its head changed."""
    head, prototypes = crowd(seed=9)
    head[:, place] = value
    return head, prototypes


HEAD, PROTOTYPES = crowd(seed=9)


def test_only_what_is_detected_has_a_box():
    """Distances of YOLO26 may be below zero: the box of a place without an object is inside out."""
    head = HEAD.copy()
    nothing = head[0, 4:7].max(0) < 0.25
    head[0, 2, nothing] = -5
    assert nothing.any()
    expected, _ = answers(constant(HEAD, PROTOTYPES))
    rows, _ = answers(constant(head, PROTOTYPES))
    np.testing.assert_array_equal(rows, expected)


@pytest.mark.parametrize(
    ("tensors", "options", "message"),
    [
        (changed(5, np.nan), {}, "must give finite numbers"),
        (changed(5, -4), {}, "scores must be probabilities, 0..1, got -4"),
        (changed(6, 30), {}, "scores must be probabilities"),
        (changed(2, -1), {}, "centre, width and height, got a negative side"),
        (changed(slice(2, 4), 150), {}, "centre, width and height, got what looks like corners"),
        (changed(slice(4), [[3], [3], [2], [2]]), {}, "coordinates up to 3 in the pictures: choose with --boxes"),
        ((np.zeros((1, 300, 38)), PROTOTYPES), {}, "coordinates up to 0 in the pictures: choose with --boxes"),
        ((HEAD, PROTOTYPES), {"boxes": "shares"}, "--boxes shares must fit the model, got coordinates up to"),
        ((HEAD, PROTOTYPES), {"prototypes": "first"}, r"prototypes must be \[1, channels, 40, 40\], got float32"),
        ((HEAD, PROTOTYPES[:, :20]), {}, r"prototypes must be \[1, 40, 40, channels\] or \[1, channels, 40, 40\], got"),
        ((HEAD[..., :500], PROTOTYPES), {}, r"head must be \[1, 36 \+ classes, 525\], its transpose, or"),
        ((np.repeat(HEAD, 3, 2), PROTOTYPES), {}, "YOLOv5's objectness is not known here"),
        ((end_to_end(c5=0.5), PROTOTYPES), {}, "sixth number of a row must be its class, 0, 1, ..., got"),
        ((end_to_end(c2=1), PROTOTYPES), {}, "must be corners x1, y1, x2, y2, got an x2 or y2 below them"),
        ((end_to_end(c4=7), PROTOTYPES), {}, "scores must be probabilities"),
        ((end_to_end(), PROTOTYPES), {"iou": 0.5}, "--iou must come with a raw head"),
    ],
)
def test_what_is_not_as_it_seems_is_refused(tensors, options, message):
    with pytest.raises(ExportError, match=message):
        settled(constant(*tensors), **options)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (tf.TensorSpec([1, 3, 160, 160], tf.float32, "images"), "channels come last here: transpose"),
        (tf.TensorSpec([8, 160, 160, 3], tf.float32, "images"), "images must take one image at a time, .* batch=1"),
        (tf.TensorSpec([1, None, None, 3], tf.float32, "images"), "of a fixed size, multiples of 32 .*, got float32"),
        (tf.TensorSpec([1, 162, 160, 3], tf.float32, "images"), "of a fixed size, multiples of 32 .*, got float32"),
        (tf.TensorSpec([1, 160, 160, 3], tf.uint8, "images"), "must take the image float32 .*, got uint8"),
    ],
    ids=str,
)
def test_images_that_upstream_does_not_export(image, message):
    with pytest.raises(ExportError, match=message):
        of_graph(constant(HEAD, PROTOTYPES, image=image), SETTINGS, {})


def test_prototypes_that_can_be_read_both_ways_need_the_option():
    """At 128 x 128, the prototypes are 32 x 32 x 32."""
    head, prototypes = HEAD[..., : 256 + 64 + 16], PROTOTYPES[:, :32, :32]
    with pytest.raises(ExportError, match="can be first or last: choose with --prototypes"):
        settled(constant(head, prototypes, (128, 128)))
    for channels in ("first", "last"):
        assert settled(constant(head, prototypes, (128, 128)), prototypes=channels).layout.channels == channels


def test_boxes_that_the_trial_does_not_tell_follow_the_option():
    """Of an end-to-end head that finds nothing, all rows can be zero."""
    small = HEAD.copy()
    small[:, :4] *= 5 / small[:, :4].max()
    for head, unit in itertools.product((small, np.zeros((1, 300, 38))), get_args(Boxes)):
        assert settled(constant(head, PROTOTYPES), boxes=unit).reading.boxes == unit


def test_a_model_of_boxes_alone_is_told(tmp_path, capsys):
    module = tf.Module()
    spec = tf.TensorSpec([1, *SMALL, 3], tf.float32, "images")
    module.serve = tf.function(lambda images: {"output_0": tf.zeros([1, 84, PLACES])}, input_signature=[spec])
    tf.saved_model.save(module, str(tmp_path / "source"), {"serving_default": module.serve})
    options = ["--saved-model", str(tmp_path / "source"), "--output", str(tmp_path / "model"), "--dialect=yolo"]
    assert main(options) == 1
    assert "a model of boxes alone has no masks" in capsys.readouterr().err


def test_the_command_takes_the_options_and_labels(tmp_path, capsys):
    """A frame that is not square, too, and a picture in which there is nothing."""
    network = Network((192, 320))
    save(tmp_path / "source", network)
    names = "".join(f"  {place}: class of {place}\n" for place in range(CLASSES))
    (tmp_path / "source" / "metadata.yaml").write_text(f"task: segment\nnames:\n{names}")
    command = ["--saved-model", str(tmp_path / "source"), "--output", str(tmp_path / "model")]
    assert main([*command, "--max-detections=2", "--confidence=0.3"]) == 0
    loaded = tf.saved_model.load(str(tmp_path / "model" / "1"))
    text = loaded.signatures["segment_contract"](query=tf.zeros([1], tf.int8))["contract"].numpy()[0]
    contract = ModelContract.from_json(text)
    assert contract.resize == Resize(mode="letterbox", min_dim=0, max_dim=320, frame_hw=(192, 320))
    assert contract.detections.boxes == "image"
    assert contract.source == "SavedModel source (yolo)"
    with on_model_server(tmp_path / "model", SETTINGS) as segment:
        assert segment(png(np.zeros((90, 160, 3), np.uint8))).instances == ()
        found = segment(png(photograph((180, 320), seed=3))).instances
    assert len(found) == 2
    assert all(one.label == f"class of {one.class_id - 1}" for one in found)
    (tmp_path / "labels.txt").write_text("only one\n")
    assert main([*command, "--labels", str(tmp_path / "labels.txt")]) == 1
    assert "--labels must have 80 names, one for each class of the model, the first as 1" in capsys.readouterr().err
    assert main([*command, "--max-dim=512", "--mean", "0", "0", "0"]) == 1
    assert "--mean must come with a Matterport model, got yolo" in capsys.readouterr().err
    assert main([*command, "--max-dim=512"]) == 1
    assert "--max-dim must be 320, as the model says, got 512" in capsys.readouterr().err
    for wrong in ("--confidence=1.5", "--iou=-1", "--max-detections=0"):
        with pytest.raises(SystemExit, match="2"):
            main([*command, wrong])


@pytest.mark.parametrize(("resize", "frame_hw"), [("letterbox", (192, 320)), ("pad", (320, 192))])
def test_check_tells_what_a_yolo_is_and_sends_it_pictures(tmp_path, capsys, resize, frame_hw):
    save(tmp_path / "source", Network(frame_hw, boxes="shares"))
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "one.png").write_bytes(png(photograph((180, 320), seed=3)))
    options = ["--images", str(tmp_path / "photos"), "--resize", resize]
    assert main(["check", "--saved-model", str(tmp_path / "source"), *options]) == 0
    told = capsys.readouterr().out
    assert "dialect yolo, because of the outputs output_0, output_1" in told
    assert "boxes of the raw head are shares of the model's size" in told
    found = int(re.search(r"^(\d+) objects .* in 1 of 1 pictures$", told, re.MULTILINE)[1])
    assert found >= 5
    assert re.search(rf"^one.png +{found} +{found} ", told, re.MULTILINE)


@pytest.mark.campaign
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools 2
def test_the_report_compares_a_yolo_with_itself(tmp_path):
    save(tmp_path / "source", Network((192, 320)))
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "one.png").write_bytes(png(photograph((180, 320), seed=3)))
    folders = ["--images", str(tmp_path / "photos"), "--output", str(tmp_path / "page.html")]
    assert main(["report", "--saved-model", str(tmp_path / "source"), *folders]) == 0
    figures = json.loads((tmp_path / "page.json").read_text())
    assert figures["dialect"] == "yolo"
    assert figures["kinds"]["int8"]["instances"] >= 5
    assert (figures["kinds"]["int8"]["lost"], figures["kinds"]["int8"]["extra"]) == (0, 0)
    assert figures["kinds"]["int8"]["iou_mean"] > 0.99
    assert figures["bytes"]["int8"]["down"] * 10 <= figures["bytes"]["float32"]["down"]


def test_options_of_a_yolo_come_with_a_yolo_alone(tmp_path, capsys, exported):
    newest = max(exported("float32").glob("[0-9]*"), key=lambda path: int(path.name))
    options = ["--saved-model", str(newest), "--output", str(tmp_path / "model"), "--iou=0.5"]
    own = ["--resize-mode=pad64", "--min-dim=0", "--anchor-scales", "12", "24", "48", "96", "192"]
    assert main([*options, *own]) == 1
    assert "--iou must come with a model of another dialect, got matterport" in capsys.readouterr().err
