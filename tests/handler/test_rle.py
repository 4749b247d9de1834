import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco

from handler.rle import encode
from tests.readers import coco_decode


def check(bits, box, image_hw):
    canvas = np.zeros(image_hw, np.uint8)
    y1, x1, y2, x2 = box
    canvas[y1:y2, x1:x2] = bits
    ours = encode(bits, box, image_hw)
    assert ours == coco.encode(np.asfortranarray(canvas))["counts"].decode()
    assert np.array_equal(coco_decode({"size": list(image_hw), "counts": ours}), canvas)


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_rle_equals_pycocotools(data):
    height, width = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 40))
    y1, x1 = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    y2, x2 = data.draw(st.integers(y1 + 1, height)), data.draw(st.integers(x1 + 1, width))
    density = data.draw(st.sampled_from([0, 0.1, 0.5, 0.9, 1]))
    seed = data.draw(st.integers(0, 1 << 32))
    bits = np.random.default_rng(seed).random((y2 - y1, x2 - x1)) < density
    check(bits, (y1, x1, y2, x2), (height, width))


@pytest.mark.parametrize("fill", [False, True])
def test_rle_of_big_images(fill):
    check(np.full((3000, 2000), fill), (0, 0, 3000, 2000), (3000, 2000))
    check(np.full((10, 10), fill), (2990, 1990, 3000, 2000), (3000, 2000))
