import base64

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from handler.masks import spans
from handler.masks.encodings import unmold_masks
from handler.masks.schemas import Box
from handler.web.formats import cvat, instances, roboflow
from tests.support.masks import cut, sample
from tests.support.readers import coco_decode, cvat_decode, fill, float32_decode, iou, paste, png_decode


def smooth(seed, sigma=3.0, shape=(28, 28)):
    """Return a blob field in 0..1, as a network's masks are."""
    field = gaussian_filter(np.random.default_rng(seed).random(shape), sigma)
    return ((field - field.min()) / np.ptp(field)).astype(np.float32)


def unmold(mask, box, clipped=None, threshold=0.5, image_hw=None):
    """Return the masks of a single object."""
    clipped = clipped or box
    image_hw = image_hw or (max(0, clipped[2]), max(0, clipped[3]))
    return unmold_masks(mask[None], np.array([box]), np.array([clipped]), image_hw, threshold)


def bits(*args, **kwargs):
    return next(iter(unmold(*args, **kwargs))).bits


def encode(masks, encoding, answer_format=instances):
    (one,) = answer_format.encoder(encoding)(masks)
    return one


def as_box(box):
    y1, x1, y2, x2 = box
    return {"x": x1, "y": y1, "width": x2 - x1, "height": y2 - y1}


@pytest.mark.parametrize("shape", [(28, 28), (7, 5), (1, 1), (2, 1)])
@pytest.mark.parametrize("box", [(3, 4, 40, 30), (0, 0, 1, 1), (5, 5, 9, 90)])
def test_masks_are_sampled_bilinearly(shape, box):
    mask = np.random.default_rng(3).random(shape).astype(np.float32)
    exact = sample(mask, box)
    unsure = np.abs(exact - 0.5) < 1e-5
    assert np.array_equal(bits(mask, box)[~unsure], (exact >= 0.5)[~unsure])


def test_more_columns_than_are_looked_at_together_are_sampled_alike(monkeypatch):
    box = (0, 0, 70, 90)
    whole = bits(smooth(1), box)
    monkeypatch.setattr(spans, "LEVELS", 7 * 28)
    assert np.array_equal(bits(smooth(1), box), whole)


def test_clipping_cuts_the_mask_and_does_not_squeeze_it():
    mask = np.random.default_rng(4).random((14, 14)).astype(np.float32)
    whole = bits(mask, (0, 0, 40, 60))
    part = bits(mask, (-10, -20, 30, 40), (0, 0, 25, 33))
    assert np.array_equal(part, whole[10:35, 20:53])


@pytest.mark.parametrize(("threshold", "area"), [(0, 12), (0.5, 12), (0.50001, 0), (1, 0)])
def test_the_threshold_itself_is_inside(threshold, area):
    masks = unmold(np.full((2, 2), 0.5, np.float32), (0, 0, 3, 4), threshold=threshold)
    assert masks.spans.areas() == [area]
    assert next(iter(masks)).bits.sum() == area


@pytest.mark.parametrize("level", [np.float32(code / 127) for code in (1, 63, 64, 100, 127)] + [0.75, 0.9])
def test_a_plateau_at_the_threshold_has_no_holes(level):
    box = (0, 0, 300, 300)
    masks = unmold(np.full((28, 28), level, np.float32), box, threshold=float(level))
    assert masks.spans.areas() == [300 * 300]
    (ring,) = encode(masks, "polygon").polygons
    assert iou(fill([ring], (300, 300)), next(iter(masks)).bits) > 0.999


@given(st.data())
def test_all_encodings_describe_the_same_mask(data):
    image_hw = data.draw(st.integers(60, 300)), data.draw(st.integers(60, 300))
    y1, x1 = data.draw(st.integers(-40, image_hw[0] - 10)), data.draw(st.integers(-40, image_hw[1] - 10))
    box = y1, x1, y1 + data.draw(st.integers(41, 320)), x1 + data.draw(st.integers(41, 320))
    clipped = max(0, y1), max(0, x1), min(image_hw[0], box[2]), min(image_hw[1], box[3])
    threshold = data.draw(st.sampled_from([0.0, 0.3, 0.5, 0.8, 1.0]))
    field = smooth(data.draw(st.integers(0, 99)), data.draw(st.sampled_from([0, 2, 4])))
    masks = unmold(field, box, clipped, threshold, image_hw)
    encoded = {name: encode(masks, name) for name in ("rle", "polygon", "png", "float32")}
    crop, outline = encode(masks, "rle", cvat), encode(masks, "polygon", roboflow)
    mask, (area,) = next(iter(masks)), masks.spans.areas()
    canvas = paste(mask.bits, as_box(clipped), image_hw)

    rle = encoded["rle"]
    assert np.array_equal(coco_decode({"size": list(rle.size), "counts": rle.counts}), canvas)
    assert np.array_equal(png_decode({"data": encoded["png"].data}, as_box(clipped), image_hw), canvas)
    pixels = [int(digit) for digit in crop.pixels.strip(b"[]").split(b",")]
    assert np.array_equal(cvat_decode(pixels, image_hw), canvas)
    assert area == canvas.sum()
    if area > 1000:
        assert iou(fill(encoded["polygon"].polygons, image_hw), canvas) >= 0.98
    if encoded["polygon"].polygons:
        assert crop.points in encoded["polygon"].polygons
    assert bool(outline) == canvas.any()

    floats = encoded["float32"]
    probabilities = float32_decode({"size": floats.size, "data": floats.data})
    assert np.array_equal(probabilities, mask.probabilities)
    if floats.box:
        assert floats.box == Box(**as_box(box))
    else:
        assert clipped == box
    exact = cut(sample(probabilities, box), box, clipped)
    sure = np.abs(exact - threshold) > 1e-5
    assert np.array_equal((exact >= threshold)[sure], mask.bits[sure])


def test_no_encoding_gives_no_mask():
    assert encode(unmold(smooth(1), (0, 0, 9, 9)), "none") is None


def test_float32_tells_its_own_box_only_where_that_was_cut():
    inside = encode(unmold(smooth(1), (1, 1, 9, 9), image_hw=(20, 20)), "float32")
    assert not inside.box
    cut = encode(unmold(smooth(1), (-3, 1, 9, 9), (0, 1, 9, 9), image_hw=(20, 20)), "float32")
    assert (cut.box.x, cut.box.y, cut.box.width, cut.box.height) == (1, -3, 8, 12)


def test_float32_is_little_endian_and_row_major():
    encoded = encode(unmold(np.array([[0.0, 1.0, 0.5]], np.float32), (0, 0, 1, 3)), "float32")
    assert base64.b64decode(encoded.data) == bytes.fromhex("00000000 0000803f 0000003f")
    assert encoded.size == (1, 3)
