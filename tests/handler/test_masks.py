import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco
from scipy.ndimage import map_coordinates

from handler.masks import Crop, encode_rle, unmold_mask


def paste(crop, image_hw):
    canvas = np.zeros(image_hw, np.uint8)
    y1, x1, y2, x2 = crop.box
    canvas[y1:y2, x1:x2] = crop.bits
    return canvas


def decode(rle):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # pycocotools 2 predates NumPy 2's copy keyword
        return coco.decode(rle)


def check(crop, image_hw):
    pasted = paste(crop, image_hw)
    ours = encode_rle(crop, image_hw)
    assert ours == coco.encode(np.asfortranarray(pasted))["counts"].decode()
    rle = {"size": list(image_hw), "counts": ours}
    assert np.array_equal(decode(rle), pasted)
    assert crop.area == int(coco.area(rle))


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_rle_equals_pycocotools(data):
    height, width = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 40))
    y1, x1 = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    y2, x2 = data.draw(st.integers(y1 + 1, height)), data.draw(st.integers(x1 + 1, width))
    density = data.draw(st.sampled_from([0, 0.1, 0.5, 0.9, 1]))
    seed = data.draw(st.integers(0, 1 << 32))
    bits = np.random.default_rng(seed).random((y2 - y1, x2 - x1)) < density
    check(Crop(bits, (y1, x1, y2, x2)), (height, width))


@pytest.mark.parametrize("fill", [False, True])
def test_rle_of_big_images(fill):
    check(Crop(np.full((3000, 2000), fill), (0, 0, 3000, 2000)), (3000, 2000))
    check(Crop(np.full((10, 10), fill), (2990, 1990, 3000, 2000)), (3000, 2000))


@pytest.mark.parametrize("shape", [(28, 28), (7, 5), (1, 1), (2, 1)])
@pytest.mark.parametrize("box", [(3, 4, 40, 30), (0, 0, 1, 1), (5, 5, 9, 90)])
def test_masks_are_sampled_bilinearly(shape, box):
    mask = np.random.default_rng(3).random(shape).astype(np.float32)
    y1, x1, y2, x2 = box
    grid = np.meshgrid(
        (np.arange(y2 - y1) + 0.5) * shape[0] / (y2 - y1) - 0.5,
        (np.arange(x2 - x1) + 0.5) * shape[1] / (x2 - x1) - 0.5,
        indexing="ij",
    )
    exact = map_coordinates(mask.astype(float), grid, order=1, mode="nearest")
    bits = unmold_mask(mask, box, box, 0.5).bits
    unsure = np.abs(exact - 0.5) < 1e-5
    assert np.array_equal(bits[~unsure], (exact >= 0.5)[~unsure])


def test_clipping_cuts_the_mask_and_does_not_squeeze_it():
    mask = np.random.default_rng(4).random((14, 14)).astype(np.float32)
    whole = unmold_mask(mask, (-10, -20, 30, 40), (-10, -20, 30, 40), 0.5).bits
    part = unmold_mask(mask, (-10, -20, 30, 40), (0, 0, 25, 33), 0.5).bits
    assert np.array_equal(part, whole[10:35, 20:53])


@pytest.mark.parametrize(("threshold", "area"), [(0, 12), (0.5, 12), (0.500001, 0), (1, 0)])
def test_the_threshold_itself_is_inside(threshold, area):
    assert unmold_mask(np.full((2, 2), 0.5, np.float32), (0, 0, 3, 4), (0, 0, 3, 4), threshold).area == area
