"""The report on a folder of images: its figures against numpy and Keras, its page, and what a failure leaves."""

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from skimage import data

from deploy.export.graphs import ExportError, Graph
from deploy.export.report import charts, page
from deploy.export.report.folder import write_report
from deploy.export.source import of_graph
from deploy.models.shapes import bundled, export, scenes
from handler.image.decode import Photo
from handler.model import mold

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools on NumPy 2
ROOT = Path(__file__).parents[4]
SEED = 1_000_100
BROKEN = "broken & gone.jpg"


@pytest.fixture(scope="module")
def source():
    return export.source()


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Three scenes of different sizes, real coins, an image without anything, a broken one, and no image at all."""
    folder = tmp_path_factory.mktemp("photos")
    drawn = [Image.fromarray(scenes.draw(SEED + seed, 192).image) for seed in range(3)]
    drawn[0].save(folder / "<b>.png")
    drawn[1].crop((0, 0, 150, 97)).save(folder / "scene.WebP", lossless=True)
    drawn[2].resize((1200, 1200)).save(folder / "large.jpeg", quality=95)
    Image.fromarray(data.coins()).save(folder / "coins.png")
    Image.new("RGB", (500, 20)).save(folder / "nothing.png")
    (folder / BROKEN).write_bytes((folder / "large.jpeg").read_bytes()[:5000])
    (folder / "notes.txt").write_text("no image")
    return folder


@pytest.fixture(scope="module")
def written(source, photos, tmp_path_factory):
    output = tmp_path_factory.mktemp("out") / "new" / "report.html"
    assert write_report(source, photos, output) == output
    return output


@pytest.fixture(scope="module")
def figures(written):
    return json.loads(written.with_suffix(".json").read_text())


@pytest.fixture(scope="module")
def text(written):
    return written.read_text(encoding="utf-8")


def by_name(figures):
    return {one["name"]: one for one in figures["images"]}


def keras(source, path):
    """Rows (n, 6) and each row's own mask (n, h, w), by Keras from inputs made here."""
    image = Image.open(path).convert("RGB")
    molded, frame = mold.mold(Photo.of(image), bundled.SETTINGS.resize, padded=True)
    inputs = {
        "input_image": (molded.astype(np.float32) - np.float32(bundled.SETTINGS.mean))[None],
        "input_image_meta": mold.meta(frame, 4),
        "input_anchors": mold.anchors(frame.frame_hw, bundled.SETTINGS.anchors),
    }
    outputs = {name: tensor.numpy()[0] for name, tensor in source.graph.call(inputs).items()}
    rows = outputs["mrcnn_detection"]
    rows = rows[: np.flatnonzero(np.append(rows[:, 4], 0) == 0)[0]]
    masks = [outputs["mrcnn_mask"][place, :, :, int(row[4])] for place, row in enumerate(rows)]
    return rows, np.array(masks)


@pytest.mark.campaign
def test_all_images_are_measured_and_the_rest_is_named(figures, written):
    assert list(by_name(figures)) == ["<b>.png", "coins.png", "large.jpeg", "nothing.png", "scene.WebP"]
    assert [one["name"] for one in figures["skipped"]] == [BROKEN]
    assert "truncated" in figures["skipped"][0]["reason"]
    assert figures["other_files"] == ["notes.txt"]
    assert sorted(path.name for path in written.parent.iterdir()) == ["report.html", "report.json"]


@pytest.mark.campaign
@pytest.mark.parametrize("name", ["<b>.png", "coins.png", "scene.WebP"])
def test_the_reference_is_keras(source, photos, figures, name):
    rows, masks = keras(source, photos / name)
    one = by_name(figures)[name]
    assert one["instances"] == len(rows) > 0
    by_hand = (masks * 255 > 127).sum() / masks.size
    assert one["saturated_share"] == pytest.approx(by_hand, abs=1e-4)
    assert 0 < by_hand < 1


@pytest.mark.campaign
def test_int8_answers_as_float32(figures):
    row = figures["kinds"]["int8"]
    assert row["instances"] == figures["instances"] >= 30
    assert row["lost"] == row["extra"] == row["class_changes"] == 0
    assert row["iou_mean"] >= 0.999
    assert row["box_difference"] <= 1e-5
    assert row["score_difference"] <= 1e-5
    assert figures["verdict"].startswith("In 5 images, int8 answers as float32 does")
    int8_cast = figures["kinds"]["int8-cast"]
    assert 0.9 < int8_cast["iou_mean"] < row["iou_mean"]
    assert int8_cast["pixels_gone"] + int8_cast["pixels_come"] > row["pixels_gone"] + row["pixels_come"]


@pytest.mark.campaign
def test_totals_are_those_of_the_images(figures):
    images = figures["images"]
    assert figures["instances"] == sum(one["instances"] for one in images)
    for kind, row in figures["kinds"].items():
        for key in ("instances", "lost", "extra", "pixels_gone", "pixels_come"):
            assert row[key] == sum(one["kinds"][kind][key] for one in images)
        charts, matched = figures["histograms"], row["instances"] - row["lost"]
        assert charts["iou"][kind][0] == row["lost"]
        assert sum(charts["iou"][kind]) == row["instances"]
        assert sum(charts["boxes"][kind]) == sum(charts["scores"][kind]) == matched
    for kind, total in figures["bytes"].items():
        assert total["up"] == pytest.approx(sum(one["bytes"][kind]["up"] for one in images) / len(images))


@pytest.mark.campaign
def test_bytes_are_those_of_the_tensors(figures):
    """coins.png is 303 x 384, in a frame of 320 x 384: 100 bytes of names and shapes a tensor, at most."""
    sent = by_name(figures)["coins.png"]["bytes"]
    anchors = 16 * 3 * sum(-(-320 // stride) * -(-384 // stride) for stride in (4, 8, 16, 32, 64))
    meta, image_size = 4 * (12 + 4), 4 * 2
    assert 0 <= sent["int8"]["up"] - (303 * 384 * 3 + image_size) < 200
    assert 0 <= sent["int8-cast"]["up"] - (320 * 384 * 3 + anchors + meta) < 350
    assert 0 <= sent["float32"]["up"] - (320 * 384 * 3 * 4 + anchors + meta) < 350
    assert sent["int8"]["down"] < sent["int8-cast"]["down"] < sent["float32"]["down"]


@pytest.mark.campaign
def test_an_image_without_objects_has_no_differences(figures):
    one = by_name(figures)["nothing.png"]
    assert (one["instances"], one["saturated_share"]) == (0, None)
    row = one["kinds"]["int8"]
    assert (row["lost"], row["extra"], row["iou_mean"], row["pixels_gone"], row["pixels_come"]) == (0, 0, None, 0, 0)


class Reader(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.images, self.links = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        attrs = dict(attrs)
        if tag == "img" and attrs.get("src"):
            self.images.append((attrs["alt"], attrs["src"]))
        self.links += [value for name, value in attrs.items() if name in ("src", "href", "action") and value]


@pytest.mark.campaign
def test_the_page_is_whole_and_asks_for_nothing(text):
    reader = Reader()
    reader.feed(text)
    assert len(reader.images) == 5 * (3 + 2)
    assert all(link.startswith("data:image/webp;base64,") for link in reader.links)
    without_pictures = re.sub(r"data:image/webp;base64,[A-Za-z0-9+/=]+", "", text)
    assert not re.search(r"https?:|//|url\(|@import", without_pictures)
    assert "default-src 'none'" in text
    assert len(text) < 5_000_000


@pytest.mark.campaign
def test_file_names_are_text_and_nothing_is_shown_as_nothing(text):
    reader = Reader()
    reader.feed(text)
    assert "b" not in set(reader.tags) or "<b>.png" not in text
    assert "&lt;b&gt;.png" in text
    assert "broken &amp; gone.jpg" in text
    assert "<b>.png: what int8 sees" in [alt for alt, _ in reader.images]
    assert '<span class="same">0 pixels differ</span>' in text
    assert "no objects" in text


def test_figures_never_round_to_equality():
    assert (page.share(1.0), page.share(0.99999), page.share(None)) == ("1", "0.9999", "\u2013")
    assert (page.gap(0.0), page.gap(1.2e-7)) == ("0", "1.2e-07")
    assert [charts.size(count) for count in (999, 1000, 51_829, 999_499, 999_500, 42_177_807)] == [
        "999 bytes",
        "1.00 kB",
        "51.8 kB",
        "999 kB",
        "1.00 MB",
        "42.2 MB",
    ]


def detector(count):
    """A source of the Object Detection API that finds ``count`` rectangles, whatever it is shown."""
    boxes = np.linspace([0.1, 0.1, 0.4, 0.5], [0.5, 0.4, 0.9, 0.9], max(count, 1), dtype=np.float32)
    masks = np.tile(np.linspace(0.2, 0.9, 14, dtype=np.float32), (max(count, 1), 14, 1))

    def call(tensors):
        del tensors
        return {
            "detection_boxes": tf.constant(boxes)[None],
            "detection_classes": tf.ones([1, len(boxes)]),
            "detection_scores": tf.fill([1, len(boxes)], 0.8),
            "detection_masks": tf.constant(masks)[None],
            "num_detections": tf.constant([float(count)]),
        }

    image = tf.TensorSpec([1, None, None, 3], tf.uint8, "input_tensor")
    outputs = {name: tf.TensorSpec(tensor.shape, tensor.dtype) for name, tensor in call({}).items()}
    graph = Graph({"input_tensor": image}, outputs, call, (), "rectangles <i>")
    return of_graph(graph, bundled.SETTINGS, {1: "<u>"})


@pytest.fixture
def two_photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    Image.new("RGB", (90, 60), (200, 90, 10)).save(folder / "a.png")
    Image.new("RGB", (31, 1400)).save(folder / "b.jpg")
    return folder


def test_other_dialects_have_no_int8_cast(two_photos, tmp_path):
    output = write_report(detector(2), two_photos, tmp_path / "report.html")
    figures, text = json.loads(output.with_suffix(".json").read_text()), output.read_text()
    assert list(figures["kinds"]) == ["int8"]
    assert figures["instances"] == 4
    assert figures["saturated_share"] is None
    assert figures["kinds"]["int8"]["lost"] == figures["kinds"]["int8"]["extra"] == 0
    assert figures["images"][0]["bytes"]["float32"]["up"] == pytest.approx(90 * 60 * 3, abs=150)
    assert text.count("<img loading") == 2 * 3
    assert "There is no int8-cast export of this kind of model" in text
    assert "rectangles &lt;i&gt;" in text
    assert "<u>" not in text


def test_a_model_that_finds_nothing_is_told(two_photos, tmp_path):
    output = write_report(detector(0), two_photos, tmp_path / "report.html")
    assert json.loads(output.with_suffix(".json").read_text())["verdict"].startswith("No object was found in 2 images")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (None, "which does not exist|No such file"),
        ({}, "which has no files"),
        (
            {"a.png": b"x", "b.jpg": b"", "c.txt": b"y"},
            r"got 3 files in .*a\.png \(.*b\.jpg \(.*1 of other kinds.*c\.txt",
        ),
        ({"c.txt": b"y"}, "got 1 files in .*1 of other kinds"),
    ],
)
def test_a_folder_without_images_is_told_and_leaves_nothing(tmp_path, files, message):
    folder = tmp_path / "photos"
    if files is not None:
        folder.mkdir()
    for name, content in (files or {}).items():
        (folder / name).write_bytes(content)
    with pytest.raises(ExportError, match=message):
        write_report(detector(1), folder, tmp_path / "out" / "deep" / "report.html")
    assert not (tmp_path / "out").exists()


def test_an_output_that_cannot_be_written_is_told_at_once(two_photos, tmp_path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder.html").mkdir()
    (tmp_path / "taken.json").mkdir()
    for output in ("file/report.html", "folder.html", "taken.html", "report.json", "report"):
        with pytest.raises(ExportError, match="--output must be a page"):
            write_report(detector(1), two_photos, tmp_path / output)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"file", "folder.html", "taken.json", "photos"}


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_failure_on_the_way_leaves_nothing(two_photos, tmp_path, monkeypatch, error):
    def fail(*_):
        raise error

    monkeypatch.setattr(page, "render", fail)
    with pytest.raises(error):
        write_report(detector(1), two_photos, tmp_path / "out" / "report.html")
    assert not (tmp_path / "out").exists()


def test_an_earlier_report_survives_a_failure(two_photos, tmp_path, monkeypatch):
    earlier = '{"verdict": "earlier", "kinds": {}, "images": []}'
    for name in ("report.html", "report.json"):
        (tmp_path / name).write_text(earlier)
    monkeypatch.setattr(page, "render", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_report(detector(1), two_photos, tmp_path / "report.html")
    assert {path.name for path in tmp_path.iterdir()} == {"photos", "report.html", "report.json"}
    assert (tmp_path / "report.html").read_text() == (tmp_path / "report.json").read_text() == earlier


def test_another_json_beside_the_page_is_left_alone(two_photos, tmp_path):
    (tmp_path / "mine.json").write_text('{"1": "cat"}')
    with pytest.raises(ExportError, match=r"its figures in mine\.json, which is there and is something else"):
        write_report(detector(1), two_photos, tmp_path / "mine.html")
    assert (tmp_path / "mine.json").read_text() == '{"1": "cat"}'


def test_a_model_that_fails_is_told_with_the_image(two_photos, tmp_path):
    source = detector(1)

    def call(tensors):
        width = tf.shape(tensors["input_tensor"])[2]
        with tf.control_dependencies([tf.debugging.assert_greater(width, 25, "too narrow")]):
            return {name: tf.identity(tensor) for name, tensor in source.graph.call(tensors).items()}

    graph = Graph(source.graph.inputs, source.graph.outputs, call, (), "short")
    with pytest.raises(
        ExportError, match=r"the model must answer for b\.jpg, as source, got: assertion failed: .too narrow"
    ):
        write_report(of_graph(graph, bundled.SETTINGS, {}), two_photos, tmp_path / "report.html")
    assert {path.name for path in tmp_path.iterdir()} == {"photos"}


@pytest.mark.campaign
def test_the_command_tells_an_error_in_a_line(tmp_path):
    command = [sys.executable, "-m", "deploy.models.shapes.export", "report"]
    command += ["--images", tmp_path, "--output", tmp_path / "r.html"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert run.stderr.strip().splitlines()[-1].startswith("export: --images must be a folder")
    assert list(tmp_path.iterdir()) == []
