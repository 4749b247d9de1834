"""The client package in Node: masks against pycocotools and the function's own, types against the interface."""

import base64
import gzip
import json
import os
import re

import msgspec
import numpy as np
import pytest
from pycocotools import mask as coco

from handler.masks.encodings import encode_float32, encode_rle, unmold_masks
from handler.model.contract import Resize
from handler.model.mold import resize_rule
from handler.web import openapi
from tests.support import counts, node
from tests.support.processes import ROOT
from tests.support.readers import coco_decode

FOLDER = ROOT / "handler" / "page" / "client"
SCRIPT = ROOT / "tests" / "handler" / "page" / "client.mjs"
LARGEST_BYTES = 6000
COUNT = counts.pick(60, 1000)
random = np.random.default_rng(15)


def ask(**tasks):
    return node.script(SCRIPT, tasks)


def text(array):
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()


def masks():
    """Yield masks uint8 [h, w]: noise, blobs, full and empty ones, single pixels."""
    for index in range(COUNT):
        height, width = random.integers(1, 70, 2)
        noise = random.random((height, width))
        kinds = (
            noise < random.random(),
            noise < 2,
            noise > 2,
            np.add.outer(np.arange(height), np.arange(width)) % 9 < 5,
        )
        yield kinds[index % 4].astype(np.uint8)


def test_rle_is_that_of_pycocotools_both_ways():
    cases = list(masks())
    expected = [coco.encode(np.asfortranarray(mask)) for mask in cases]
    sizes = [{"width": mask.shape[1], "height": mask.shape[0]} for mask in cases]
    crops = [
        {"crop": {"x": 0, "y": 0, **size, "data": text(mask)}, "image": size}
        for size, mask in zip(sizes, cases, strict=True)
    ]
    rles = [{"size": one["size"], "counts": one["counts"].decode()} for one in expected]
    answer = ask(encode=crops, decode=rles)
    assert answer["encode"] == [one["counts"] for one in rles]
    for mask, decoded in zip(cases, answer["decode"], strict=True):
        assert base64.b64decode(decoded) == mask.tobytes()


def test_a_crop_anywhere_in_the_image():
    cases = []
    for mask in masks():
        (height, width), (top, left, below, right) = mask.shape, random.integers(0, 5, 4)
        whole = np.zeros((top + height + below, left + width + right), np.uint8)
        whole[top : top + height, left : left + width] = mask
        cases.append((whole, {"x": int(left), "y": int(top), "width": width, "height": height, "data": text(mask)}))
    images = [{"width": whole.shape[1], "height": whole.shape[0]} for whole, _ in cases]
    answer = ask(encode=[{"crop": crop, "image": image} for (_, crop), image in zip(cases, images, strict=True)])
    assert answer["encode"] == [coco.encode(np.asfortranarray(whole))["counts"].decode() for whole, _ in cases]


@pytest.mark.parametrize(
    ("mask", "why"),
    [
        ({"size": [2, 3], "counts": "221"}, "counts must fill the size, got less"),
        ({"size": [2, 3], "counts": "2291"}, "counts must fill the size, got more"),
        ({"size": [2, 3], "counts": "22 1"}, "counts must be characters 0 to o and whole, got others"),
        ({"size": [2, 3], "counts": "22o"}, "counts must be characters 0 to o and whole, got others"),
    ],
)
def test_rle_that_is_none_is_refused(mask, why):
    assert ask(refuse=[mask])["refuse"] == [f"RangeError: {why}"]


def instances(count, image_hw=(120, 150)):
    """Yield (JSON instance of mask=float32, Masks, threshold) of random objects, some of them over the edge."""
    for _ in range(count):
        rows, columns = random.integers(1, 30, 2)
        grid = random.random((1, rows, columns)).astype(np.float32)
        top, left = random.integers(-30, 90, 2)
        box = np.array([[top, left, top + random.integers(31, 90), left + random.integers(31, 90)]])
        clipped = np.clip(box, 0, np.tile(image_hw, 2))
        threshold = float(random.random())
        found = unmold_masks(grid, box, clipped, image_hw, threshold)
        (mask,) = encode_float32(found)
        y1, x1, y2, x2 = clipped[0].tolist()
        extent = {"box": {name: getattr(mask.box, name) for name in ("x", "y", "width", "height")}} if mask.box else {}
        json_mask = {"format": "float32", "size": mask.size, "data": mask.data, **extent}
        yield {"box": {"x": x1, "y": y1, "width": x2 - x1, "height": y2 - y1}, "mask": json_mask}, found, threshold


def test_pixels_are_those_of_the_function():
    cases = list(instances(COUNT))
    image = {"width": 150, "height": 120}
    given = [{"instance": instance, "threshold": threshold, "image": image} for instance, _, threshold in cases]
    differing = 0
    for (_, found, _), answer in zip(cases, ask(pixels=given)["pixels"], strict=True):
        (expected,) = encode_rle(found)
        ours, theirs = (coco_decode(one) for one in (answer, {"size": expected.size, "counts": expected.counts}))
        differing += int((ours != theirs).sum())  # float32 sums in another order: a pixel on the threshold may differ
    assert differing <= COUNT // 50


def even_odd(rings, height, width):
    """Return the pixels [h, w] whose centres lie inside an odd number of rings."""
    y, x = np.mgrid[:height, :width] + 0.5
    inside = np.zeros((height, width), bool)
    for ring in rings:
        corners = np.reshape(ring, (-1, 2))
        for (x1, y1), (x2, y2) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
            crosses = (y1 <= y) != (y2 <= y)
            inside ^= crosses & (x < x1 + (y - y1) / np.where(y2 == y1, 1, y2 - y1) * (x2 - x1))
    return inside


def test_outlines_enclose_the_pixels():
    y, x = np.mgrid[:28, :28] - 13.5
    disc, ring = 1 / (1 + np.exp(np.hypot(y, x) - 9)), np.exp(-(((np.hypot(y, x) - 8) / 3) ** 2))
    edge = np.clip(x / 6, 0, 1)
    box = {"x": 7, "y": 5, "width": 83, "height": 64}
    shapes = [disc, ring, edge, np.ones((28, 28)), np.zeros((28, 28))]
    given = [
        {"instance": {"box": box, "mask": {"size": [28, 28], "data": text(shape.astype("<f4"))}}, "threshold": 0.5}
        for shape in shapes
    ]
    image = {"width": 100, "height": 80}
    answer = ask(outline=given, pixels=[{**one, "image": image} for one in given])
    assert list(map(len, answer["outline"])) == [1, 2, 1, 1, 0]
    for rings, rle in zip(answer["outline"], answer["pixels"], strict=True):
        drawn, pixels = even_odd(rings, 80, 100), coco_decode(rle).astype(bool)
        assert (drawn & pixels).sum() >= 0.99 * (drawn | pixels).sum()
    turns = [np.sign(signed_area(one)) for one in answer["outline"][1]]
    assert sorted(turns) == [-1, 1]
    assert signed_area(answer["outline"][0][0]) > 0  # clockwise on the screen, as in mask=polygon


def signed_area(ring):
    x, y = np.reshape(ring, (-1, 2)).T
    return float(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2


RULES = [
    Resize(mode="square", min_dim=800, max_dim=1024),
    Resize(mode="pad64", min_dim=0, max_dim=1024),
    Resize(mode="fit", min_dim=0, max_dim=512, min_scale=2),
    Resize(mode="letterbox", min_dim=0, max_dim=640, frame_hw=(480, 640)),
]


def test_the_size_to_send_is_what_the_model_uses_but_never_larger():
    sizes = [(width, height) for width in (1, 30, 641, 4000) for height in (1, 481, 3000)]
    cases = [(size, rule) for size in sizes for rule in RULES]
    given = [
        {"size": {"width": width, "height": height}, "resize": json.loads(msgspec.json.encode(rule))}
        for (width, height), rule in cases
    ]
    for (size, rule), answer in zip(cases, ask(uploadSize=given)["uploadSize"], strict=True):
        height, width = resize_rule(size[::-1], rule).resized_hw
        shrinks = width < size[0] or height < size[1]
        expected = (width, height) if shrinks else size
        assert np.abs(np.subtract((answer["width"], answer["height"]), expected)).max() <= 1  # halves round up in JS
        assert answer["width"] <= size[0]
        assert answer["height"] <= size[1]


def test_it_is_small_and_needs_no_other_package():
    sources = {path.name: path.read_text(encoding="utf-8") for path in sorted(FOLDER.glob("*.js"))}
    assert len(gzip.compress("".join(sources.values()).encode(), 9, mtime=0)) < LARGEST_BYTES
    imported = {name for source in sources.values() for name in re.findall(r'from "(.*?)"', source)}
    assert {name.removeprefix("./") for name in imported} <= set(sources)
    package = json.loads((FOLDER / "package.json").read_text(encoding="utf-8"))
    assert "dependencies" not in package


@pytest.mark.campaign
def test_what_holds_for_every_mask_and_size():
    properties = SCRIPT.with_name("properties.mjs")
    assert json.loads(node.run(node.need("node"), properties, node.tools(), 2000, timeout=500)) == "ok"


@pytest.mark.campaign
def test_the_types_are_those_of_the_interface(tmp_path):
    """Set UPDATE=1 to write them anew."""
    (tmp_path / "client.json").write_bytes(openapi.document(("jpeg", "png", "webp"), locked=False, client=True))
    command = node.tools() / ".bin" / "openapi-typescript"
    node.run(command, tmp_path / "client.json", "--array-length", "-o", tmp_path / "api.d.ts")
    written = (tmp_path / "api.d.ts").read_text(encoding="utf-8")
    if os.environ.get("UPDATE"):
        (FOLDER / "api.d.ts").write_text(written, encoding="utf-8")
    assert (FOLDER / "api.d.ts").read_text(encoding="utf-8") == written
