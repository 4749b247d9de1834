import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as coco

from handler.masks.rle import encode
from handler.masks.spans import Spans
from tests.support.readers import coco_decode


def spans(canvases):
    """Return canvases bool [h, w] as spans, found a pixel at a time."""
    edges = [np.flatnonzero(np.diff(canvas.T.ravel(), prepend=False, append=False)) for canvas in canvases]
    bounds = np.cumsum([0, *map(len, edges)])
    return Spans(np.concatenate(edges).astype(np.int64), bounds, canvases[0].shape)


def check(canvases):
    for canvas, text in zip(canvases, encode(spans(canvases)), strict=True):
        assert text == coco.encode(np.asfortranarray(canvas.astype(np.uint8)))["counts"].decode()
        assert np.array_equal(coco_decode({"size": list(canvas.shape), "counts": text}), canvas)


@given(st.data())
def test_rle_equals_pycocotools(data):
    height, width = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 40))
    canvases = []
    for density in data.draw(st.lists(st.sampled_from([0, 0.1, 0.5, 0.9, 1]), min_size=1, max_size=5)):
        y1, x1 = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
        y2, x2 = data.draw(st.integers(y1 + 1, height)), data.draw(st.integers(x1 + 1, width))
        canvas = np.zeros((height, width), np.bool_)
        canvas[y1:y2, x1:x2] = np.random.default_rng(data.draw(st.integers(0, 99))).random((y2 - y1, x2 - x1)) < density
        canvases.append(canvas)
    check(canvases)


@pytest.mark.parametrize("fill", [False, True])
def test_rle_of_big_images(fill):
    corner = np.zeros((3000, 2000), np.bool_)
    corner[2990:, 1990:] = fill
    check([np.full((3000, 2000), fill), corner])


def test_the_example_of_the_module():
    assert encode(spans([np.array([[0, 1, 0], [0, 1, 1]], np.bool_)])) == ["221O"]


def test_no_masks_have_no_text():
    assert encode(Spans(np.zeros(0, np.int64), np.zeros(1, np.int64), (30, 40))) == []
