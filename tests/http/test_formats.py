"""Each encoding and each format as independent readers see it: pycocotools, supervision, Pillow, NumPy, CVAT."""

import contextlib
import io
import re
from pathlib import Path

import numpy as np
import pytest
import supervision
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from scipy.ndimage import label

from tests.http import scenes
from tests.http.client import ok
from tests.http.scenes import CONTRACT, OBJECTS, SIZE_HW, VISIBLE, png
from tests.support.masks import paint
from tests.support.readers import coco_decode, cvat_decode, fill, float32_decode, iou, png_decode

PNG = png()
SIZE_WH = (SIZE_HW[1], SIZE_HW[0])
HOLED, PARTED = 1, 2  # places in OBJECTS


def ask(function, **options):
    return ok(function.post(PNG, "?" + "&".join(f"{name}={value}" for name, value in options.items())))


def instances(function, **options):
    return ask(function, **options)["instances"]


@pytest.fixture
def truth(function):
    """Return the masks uint8 [H, W] by falling score, as pycocotools decodes them."""
    return [coco_decode(one["mask"]) for one in instances(function)]


def test_rle_is_over_the_image_and_has_the_area_it_says(function, truth):
    for one, mask, visible in zip(instances(function), truth, VISIBLE, strict=True):
        assert one["mask"]["format"] == "rle"
        assert (mask.shape, int(mask.sum())) == (SIZE_HW, one["area"])
        assert (one["area"] > 0) == visible
        rows, columns = np.nonzero(mask)
        box = one["box"]
        assert ((rows >= box["y"]) & (rows < box["y"] + box["height"])).all()
        assert ((columns >= box["x"]) & (columns < box["x"] + box["width"])).all()


def test_png_has_the_same_pixels(function, truth):
    for one, mask in zip(instances(function, mask="png"), truth, strict=True):
        assert np.array_equal(png_decode(one["mask"], one["box"], SIZE_HW), mask)


def test_polygons_fill_the_same_pixels(function, truth):
    large = 0
    for one, mask in zip(instances(function, mask="polygon"), truth, strict=True):
        filled = fill(one["mask"]["polygons"], SIZE_HW)
        if mask.sum() > 1000:
            assert iou(filled, mask) >= 0.98
            large += 1
        for ring in one["mask"]["polygons"]:
            assert len(ring) >= 6
            assert 0 <= min(ring[::2]) <= max(ring[::2]) <= SIZE_WH[0]
            assert 0 <= min(ring[1::2]) <= max(ring[1::2]) <= SIZE_WH[1]
    assert large == 6


def test_polygons_keep_holes_and_parts(function, truth):
    rings = [one["mask"]["polygons"] for one in instances(function, mask="polygon")]
    assert label(truth[PARTED])[1] == len(rings[PARTED]) == 2
    outer, hole = rings[HOLED]
    assert label(1 - truth[HOLED])[1] == 2  # around and within
    assert fill([outer], SIZE_HW).sum() > fill([outer, hole], SIZE_HW).sum() > 0
    assert _turn(outer) == 1
    assert _turn(hole) == -1
    assert {_turn(ring) for ring in rings[PARTED]} == {1}


def _turn(ring):
    x, y = np.array(ring).reshape(-1, 2).T
    return np.sign(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1)))


def sides(box):
    """Return y1, x1, y2, x2 of a box in an answer."""
    return [box["y"], box["x"], box["y"] + box["height"], box["x"] + box["width"]]


def test_float32_are_the_probabilities_over_the_box(function, truth):
    for one, mask, (box, _, _, grid) in zip(instances(function, mask="float32"), truth, OBJECTS, strict=True):
        probabilities = float32_decode(one["mask"])
        assert np.abs(probabilities - grid).max() <= 0.5 / 127 + 1e-6
        over = one["mask"].get("box", one["box"])
        assert sides(over) == list(box)
        painted = paint(probabilities, sides(over), SIZE_HW)
        sure = np.abs(painted - 0.5) > 1e-6
        assert np.array_equal((painted >= 0.5)[sure], mask[sure])


def test_none_leaves_the_masks_out_and_nothing_else(function):
    plain = instances(function)
    for one, without in zip(plain, instances(function, mask="none"), strict=True):
        assert without == {**one, "mask": None}


@pytest.mark.parametrize("threshold", [0.3, 0.8])
def test_the_threshold_moves_every_encoding_alike(function, threshold):
    masks = [coco_decode(one["mask"]) for one in instances(function, mask_threshold=threshold)]
    for one, mask in zip(instances(function, mask="float32"), masks, strict=True):
        painted = paint(float32_decode(one["mask"]), sides(one["mask"].get("box", one["box"])), SIZE_HW)
        sure = np.abs(painted - threshold) > 1e-5
        assert np.array_equal((painted >= threshold)[sure], mask[sure])
    for one, mask in zip(instances(function, mask_threshold=threshold, mask="png"), masks, strict=True):
        assert np.array_equal(png_decode(one["mask"], one["box"], SIZE_HW), mask)
    for one, mask in zip(instances(function, mask_threshold=threshold, mask="polygon"), masks, strict=True):
        if mask.sum() > 1000:
            assert iou(fill(one["mask"]["polygons"], SIZE_HW), mask) >= 0.98


def quietly(work):
    """Return what ``work`` returns, without what pycocotools prints."""
    with contextlib.redirect_stdout(io.StringIO()):
        return work()


def dataset(masks, image_id):
    """Return the scene's own truth as a COCO data set."""
    found = COCO()
    found.dataset = {
        "images": [{"id": image_id, "height": SIZE_HW[0], "width": SIZE_HW[1]}],
        "categories": [{"id": index, "name": str(index)} for index in (1, 2, 3)],
        "annotations": [
            {
                "id": number,
                "image_id": image_id,
                "category_id": OBJECTS[number - 1][1],
                "iscrowd": 0,
                "area": int(mask.sum()),
                "bbox": [0, 0, 1, 1],
                "segmentation": {"size": list(SIZE_HW), "counts": rle["counts"]},
            }
            for number, (mask, rle) in enumerate(masks, start=1)
            if mask.any()
        ],
    }
    quietly(found.createIndex)
    return found


@pytest.mark.parametrize("mask", ["rle", "polygon"])
def test_coco_results_are_loaded_and_judged_by_pycocotools(function, truth, mask):
    rles = [one["mask"] for one in instances(function)]
    answer = ask(function, format="coco", image_id=42, mask=mask)
    assert {one["image_id"] for one in answer} == {42}
    judged = dataset(list(zip(truth, rles, strict=True)), 42)
    if mask == "polygon":  # pycocotools fills every ring: what has a hole comes as RLE
        kinds = [type(one["segmentation"]) for one in answer]
        assert kinds == [dict if place == HOLED else list for place in range(len(answer))]
    loaded = quietly(lambda: judged.loadRes(answer))
    judge = quietly(lambda: COCOeval(judged, loaded, "segm"))
    quietly(lambda: (judge.evaluate(), judge.accumulate(), judge.summarize()))
    for one, expected in zip(answer, truth, strict=False):
        assert iou(judged_mask(loaded, one), expected) >= 0.97 or not expected.any()
    assert judge.stats[0] > 0.999  # average precision over IoU 0.50 to 0.95


def judged_mask(loaded, entry):
    """Return the mask that pycocotools makes of an entry, found by its score."""
    (annotation,) = [one for one in loaded.dataset["annotations"] if one["score"] == entry["score"]]
    return coco_decode(loaded.annToRLE(annotation))


def documented(name):
    """Return the Python example of handler/README.md under a heading, ready to run."""
    section = (Path(__file__).parents[2] / "handler/README.md").read_text(encoding="utf-8").split(f"\n#### {name}\n")[1]
    (code, *_) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    return compile(code, name, "exec")


def sized(image_id, ids):
    """Return a COCO data set of the scene with the areas of its masks; ``ids``: category id by class id."""
    rles = [scenes_mask(place) for place, visible in enumerate(VISIBLE) if visible]
    found = COCO()
    annotations = [
        {
            "id": number,
            "image_id": image_id,
            "category_id": ids[class_id],
            "iscrowd": 0,
            "area": int(coco_mask.area(rle)),
            "bbox": coco_mask.toBbox(rle).tolist(),
            "segmentation": rle,
        }
        for number, (rle, (_, class_id, _, _)) in enumerate(zip(rles, OBJECTS, strict=False), start=1)
    ]
    found.dataset = {
        "images": [{"id": image_id, "height": SIZE_HW[0], "width": SIZE_HW[1]}],
        "categories": [{"id": ids[number], "name": name} for number, name in CONTRACT.labels.items()],
        "annotations": annotations,
    }
    quietly(found.createIndex)
    return found


def scenes_mask(place):
    """Return the RLE of an object of the scene, painted by the oracle for masks."""
    box, _, _, grid = OBJECTS[place]
    return coco_mask.encode(np.asfortranarray((paint(np.rint(127 * grid) / 127, box, SIZE_HW) >= 0.5).astype(np.uint8)))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # pycocotools predates NumPy 2
@pytest.mark.parametrize("mask", ["rle", "polygon"])
@pytest.mark.parametrize("ids", [{1: 1, 2: 2, 3: 3}, {1: 7, 2: 90, 3: 13}], ids=["the model's ids", "ids with gaps"])
def test_the_documented_way_judges_coco_results_by_size(function, mask, ids):
    answer, empty = ask(function, format="coco", image_id=42, mask=mask), []
    labels = ok(function.get("/model"))["contract"]["labels"]
    names = {"truth": sized(42, ids), "labels": labels}
    quietly(lambda: exec(documented("COCO evaluation"), names))
    results = quietly(lambda: names["load"](answer))
    by_score = {one["score"]: one for one in answer}
    for found in results.dataset["annotations"]:
        assert found["area"] == by_score[found["score"]]["area"]
        assert abs(found["area"] - coco_mask.area(results.annToRLE(found))) <= 0.03 * found["area"]
    judge = quietly(lambda: COCOeval(names["truth"], results, "segm"))
    quietly(lambda: (judge.evaluate(), judge.accumulate(), judge.summarize()))
    assert judge.stats[0] > 0.999
    sizes = {sum(low <= one["area"] < high for one in answer) for low, high in ((0, 32**2), (32**2, 96**2))}
    assert sizes == {0, 6} or judge.stats[4] > 0.999  # of the medium ones
    assert len(quietly(lambda: names["load"](empty)).getAnnIds()) == 0


def test_coco_entries_hold_what_the_instances_do(function):
    for one, entry in zip(instances(function), ask(function, format="coco"), strict=True):
        box = one["box"]
        assert entry == {
            "image_id": 0,
            "category_id": one["class_id"],
            "bbox": [box["x"], box["y"], box["width"], box["height"]],
            "score": one["score"],
            "area": one["area"],
            "segmentation": {"size": list(SIZE_HW), "counts": one["mask"]["counts"]},
        }
    assert all("segmentation" not in entry for entry in ask(function, format="coco", mask="none"))


def test_cvat_masks_are_crops_with_inclusive_corners(function, truth):
    plain = [one for one, visible in zip(instances(function), VISIBLE, strict=True) if visible]
    answer = ask(function, format="cvat")
    for one, entry, mask in zip(plain, answer, [mask for mask in truth if mask.any()], strict=True):
        assert (entry["type"], entry["label"], entry["confidence"]) == ("mask", one["label"], str(one["score"]))
        box = one["box"]
        corners = [box["x"], box["y"], box["x"] + box["width"] - 1, box["y"] + box["height"] - 1]
        assert entry["mask"][-4:] == corners
        assert np.array_equal(cvat_decode(entry["mask"], SIZE_HW), mask)
        assert iou(fill([entry["points"]], SIZE_HW), largest(mask)) >= 0.98


def largest(mask):
    """Return the largest part of a mask, its holes filled."""
    parts, count = label(mask)
    part = parts == max(range(1, count + 1), key=lambda number: np.sum(parts == number))
    outside, _ = label(np.pad(~part, 1, constant_values=True))
    return outside[1:-1, 1:-1] != outside[0, 0]


def test_cvat_polygons_and_rectangles(function):
    masks = ask(function, format="cvat")
    polygons = ask(function, format="cvat", mask="polygon")
    assert [entry["type"] for entry in polygons] == 6 * ["polygon"]
    assert [entry["points"] for entry in polygons] == [entry["points"] for entry in masks]
    rectangles = ask(function, format="cvat", mask="none")
    for one, entry in zip(instances(function), rectangles, strict=True):
        box = one["box"]
        corners = [box["x"], box["y"], box["x"] + box["width"], box["y"] + box["height"]]
        assert (entry["type"], entry["points"]) == ("rectangle", corners)


def small_and_large():
    """Return blobs of 3 to 120 pixels that a whole outline describes, as objects of the scene."""
    y, x = np.mgrid[: scenes.GRID, : scenes.GRID] - (scenes.GRID - 1) / 2
    disk = 1 / (1 + np.exp(np.hypot(y, x) - 11))
    blade = np.exp(-(((y - x / 2) / 5) ** 2))
    full = np.full((scenes.GRID, scenes.GRID), 0.9)
    sides = [3, 4, 5, 7, 9, 12, 16, 24, 40, 120]
    corners = [(5 + 25 * (place // 2), 10 + 130 * (place % 2)) for place in range(len(sides))]
    boxes = [(top, left, top + side, left + side) for side, (top, left) in zip(sides, corners, strict=True)]
    grids = [(disk, blade, full)[place % 3] for place in range(len(sides))]
    return [(box, 1, 0.9 - place / 100, grid) for place, (box, grid) in enumerate(zip(boxes, grids, strict=True))]


@pytest.mark.scripted
def test_supervision_draws_the_same_pixels_from_points_as_from_rle(function):
    function.backend.outputs = scenes.outputs(objects=small_and_large())
    drawn = [
        supervision.Detections.from_inference(ask(function, format="roboflow", mask=one)) for one in ("polygon", "rle")
    ]
    assert len(drawn[0]) == len(drawn[1]) == 10
    for from_points, from_rle in zip(drawn[0].mask, drawn[1].mask, strict=True):
        assert iou(from_points, from_rle) >= 0.98
        assert from_rle.any()


@pytest.mark.parametrize("mask", ["rle", "polygon"])
def test_supervision_reads_the_roboflow_format(function, truth, mask):
    answer = ask(function, format="roboflow", mask=mask, max_instances=6)
    assert answer["image"] == {"width": SIZE_WH[0], "height": SIZE_WH[1]}
    assert 0 < answer["time"] < 30
    assert len({one["detection_id"] for one in answer["predictions"]}) == 6
    read = supervision.Detections.from_inference(answer)
    plain = instances(function, max_instances=6)
    boxes = [[one["box"][side] for side in ("x", "y", "width", "height")] for one in plain]
    assert read.xyxy.tolist() == [[x, y, x + width, y + height] for x, y, width, height in boxes]
    assert read.confidence.tolist() == [one["score"] for one in plain]
    assert read.class_id.tolist() == [one["class_id"] for one in plain]
    assert list(read.data["class_name"]) == [one["label"] for one in plain]
    for found, expected in zip(read.mask, truth, strict=False):
        if mask == "rle":
            assert np.array_equal(found, expected)
        else:  # one ring through the centres of the outermost pixels
            assert iou(found, largest(expected)) >= 0.98
    assert {one["mask_format"] for one in answer["predictions"]} == {mask}


def test_roboflow_without_masks(function):
    read = supervision.Detections.from_inference(ask(function, format="roboflow", mask="none"))
    assert len(read) == 7
    assert read.mask is None
    assert not [one for one in ask(function, format="roboflow", mask="none")["predictions"] if "mask_format" in one]


@pytest.mark.parametrize("form", ["coco", "cvat"])
@pytest.mark.parametrize("mask", ["png", "float32"])
def test_a_format_that_does_not_know_an_encoding_carries_pixels(function, form, mask):
    assert ask(function, format=form, mask=mask) == ask(function, format=form)
