import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handler.masks.spans import TIE, fill, find_spans
from tests.support.masks import cut, sample


@given(st.data())
def test_spans_are_the_pixels_at_least_at_the_threshold(data):
    image_hw = data.draw(st.integers(1, 80)), data.draw(st.integers(1, 80))
    count = data.draw(st.integers(0, 6))
    shape = data.draw(st.sampled_from([(28, 28), (14, 14), (33, 15), (1, 1), (1, 5), (3, 2)]))
    threshold = data.draw(st.sampled_from([0.0, 0.3, 0.5, 0.9, 1.0]))
    random = np.random.default_rng(data.draw(st.integers(0, 999)))
    steps = data.draw(st.sampled_from([1, 2, 127]))  # few steps make plateaus, and values at the threshold itself
    masks = (random.integers(0, steps + 1, (count, *shape)) / steps).astype(np.float32)
    boxes = np.zeros((count, 4), np.int64)
    for box in boxes:
        y1, x1 = data.draw(st.integers(-30, image_hw[0] - 1)), data.draw(st.integers(-30, image_hw[1] - 1))
        y2, x2 = data.draw(st.integers(max(1, y1 + 1), y1 + 120)), data.draw(st.integers(max(1, x1 + 1), x1 + 120))
        box[:] = y1, x1, y2, x2
    clipped = np.clip(boxes, 0, [*image_hw, *image_hw])
    spans = find_spans(masks, boxes, clipped, image_hw, threshold)

    assert len(spans.bounds) == count + 1
    for index in range(count):
        edges = spans.of(index)
        assert (np.diff(edges) > 0).all()
        exact = cut(sample(masks[index], boxes[index]), boxes[index], clipped[index])
        sure = np.abs(exact - (threshold - TIE)) > 2e-7
        found = fill(edges, tuple(clipped[index]), image_hw[0])
        assert np.array_equal(found[sure], (exact >= threshold - TIE)[sure])
        canvas = np.zeros(image_hw, np.bool_)
        canvas[clipped[index][0] : clipped[index][2], clipped[index][1] : clipped[index][3]] = found
        assert np.array_equal(np.flatnonzero(np.diff(canvas.T.ravel(), prepend=False, append=False)), edges)
        assert spans.areas()[index] == canvas.sum()


def test_the_work_does_not_grow_with_the_height_of_the_box():
    tall = np.array([[0, 0, 4_000_000, 3]])
    spans = find_spans(np.full((1, 28, 28), 0.7, np.float32), tall, tall, (4_000_000, 3), 0.5)
    assert spans.edges.tolist() == [0, 12_000_000]


def test_the_example_of_the_module():
    box = np.array([[0, 0, 8, 1]])
    rows = np.array([[[0.1], [0.6], [0.9], [0.0]]], np.float32)
    assert find_spans(rows, box, box, (8, 1), 0.5).edges.tolist() == [3, 6]


@pytest.mark.parametrize("rows", [(1.0, 0.0, 1.0), (0.0, 1.0, 0.0)])
def test_a_crossing_there_and_back_between_two_pixels_leaves_no_trace(rows):
    box = np.array([[0, 0, 1, 1]])  # its only pixel's centre is the middle row's
    spans = find_spans(np.array([rows], np.float32)[:, :, None], box, box, (1, 1), 0.5)
    assert spans.areas() == [int(rows[1])]
    two = np.array([[0, 0, 2, 1]])  # centres at a quarter and three quarters: 0.25 from the outer rows
    spans = find_spans(np.array([rows], np.float32)[:, :, None], two, two, (2, 1), 0.5)
    assert spans.areas() == [2 * int(rows[0])]
