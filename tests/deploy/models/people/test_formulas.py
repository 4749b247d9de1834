"""The formulas around the two networks, against numbers by hand and SciPy. They need no download."""

from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from scipy.ndimage import map_coordinates

from deploy.models.people import detector, squares
from deploy.models.people.tflite import dense
from handler.types import Array


def test_anchors_lie_in_the_centres_of_cells():
    found = detector.anchors()
    assert found.shape == (2 * 28**2 + 2 * 14**2 + 6 * 7**2, 2)
    assert found.shape == (2254, 2)
    np.testing.assert_allclose(found[[0, 1, 2]], [[0.5 / 28, 0.5 / 28], [0.5 / 28, 0.5 / 28], [1.5 / 28, 0.5 / 28]])
    np.testing.assert_allclose(found[[1567, 1568]], [[27.5 / 28, 27.5 / 28], [0.5 / 14, 0.5 / 14]])
    np.testing.assert_allclose(found[[1960, 1965, 1966]], [[0.5 / 7, 0.5 / 7], [0.5 / 7, 0.5 / 7], [1.5 / 7, 0.5 / 7]])


def detections(**given: list[float]) -> tuple[Array, Array]:
    """Return rows and logits of the detector: at anchor ``aN`` the row given, with the logit before it."""
    rows, logits = np.zeros((2254, 12), np.float32), np.full(2254, -200, np.float32)
    for name, (logit, *row) in given.items():
        rows[int(name[1:])], logits[int(name[1:])] = row, logit
    return rows, logits


def test_a_row_is_decoded_around_its_anchor():
    rows, _ = detections(a0=[0, 10, 20, 30, 40, 1, 2, 3, 4, 5, 6, -7, 8])  # its anchor lies at 4, 4 of 224
    boxes, points = detector.decode(rows)
    np.testing.assert_allclose(boxes[0] * 224, [14 - 15, 24 - 20, 14 + 15, 24 + 20], rtol=1e-5)
    np.testing.assert_allclose(points[0] * 224, [[5, 6], [7, 8], [9, 10], [-3, 12]], rtol=1e-5)


def test_boxes_that_overlap_are_one_person_with_the_mean_of_their_points():
    box = [0, 0, 60, 60]
    best, other = [*box, *[10] * 8], [*box, *[30] * 8]
    rows, logits = detections(
        a0=[np.log(3), *best],  # score 0.75
        a1=[0.0, *other],  # score 0.5, at the same anchor
        a2=[-0.1, *[99] * 12],  # below 0.5
        a1567=[200.0, *best],  # far from them
    )
    points = detector.people(rows, logits)
    assert points.shape == (2, 4, 2)
    np.testing.assert_allclose(points[0] * 224, np.full((4, 2), 27.5 * 8 + 10), rtol=1e-5)
    np.testing.assert_allclose(points[1] * 224, np.full((4, 2), 4 + (0.75 * 10 + 0.5 * 30) / 1.25), rtol=1e-5)


def test_without_a_person_nothing_is_found():
    assert detector.people(*detections()).shape == (0, 4, 2)


@pytest.mark.parametrize(
    ("second", "angle"), [((100, 80), 0), ((220, 200), np.pi / 2), ((100, 320), np.pi), ((-20, 200), -np.pi / 2)]
)
def test_the_square_reaches_around_the_circle_and_stands_upright_on_its_person(second, angle):
    points = np.array([[[100, 200], second, [0, 0], [0, 0]]], np.float32)
    np.testing.assert_allclose(detector.squares(points), [[100, 200, 2 * 120 * 1.25, angle]], atol=1e-5)


def test_a_quarter_turn_brings_the_top_to_the_right():
    square = tf.constant([[50.0, 40.0, 20.0, np.pi / 2]])
    points = tf.constant([[[0.5, 0.5], [0.5, 0.0], [0.0, 0.0]]])
    placed = squares.to_image(square, points)
    np.testing.assert_allclose(placed, [[[50, 40], [60, 40], [60, 30]]], atol=1e-5)
    np.testing.assert_allclose(squares.to_square(square, placed), points, atol=1e-6)


def centres(side_px):
    """Return the centres of pixels of a square in 0..1, [side_px, side_px] each for x and y."""
    line = (np.arange(side_px) + 0.5) / side_px
    return np.meshgrid(line, line)


def turned(x, y, angle):
    return np.cos(angle) * x - np.sin(angle) * y, np.sin(angle) * x + np.cos(angle) * y


SQUARE = (31.0, 24.0, 26.0, 0.6)


def test_crops_are_bilinear_at_half_pixel_centres():
    image = np.random.default_rng(1).uniform(0, 255, (48, 64, 1)).astype(np.float32)
    cx, cy, side, angle = SQUARE
    centre_x, centre_y = centres(20)
    x, y = turned(centre_x - 0.5, centre_y - 0.5, angle)
    expected = map_coordinates(image[..., 0], [cy + side * y - 0.5, cx + side * x - 0.5], order=1)
    found = squares.crops(tf.constant(image[None]), tf.constant([SQUARE, (32, 24, 64, 0)]), 20, "CONSTANT")
    np.testing.assert_allclose(found[0, ..., 0], expected, atol=0.01)
    assert (found[1, :2].numpy() == 0).all()  # above the image


def test_the_mask_of_a_square_becomes_the_mask_of_the_box_around_it():
    y, x = np.mgrid[:64, :64]
    mask = np.clip(20 - np.hypot(x - 30, (y - 36) * 1.5), 0, 1).astype(np.float32)
    cx, cy, side, angle = SQUARE
    box = squares.bounds(tf.constant(mask[None]), tf.constant([SQUARE]), tf.constant([48, 64])).numpy()[0]
    inside_x, inside_y = (centres(64)[axis][mask > 0.5] - 0.5 for axis in (0, 1))
    px, py = turned(inside_x, inside_y, angle)
    half = side / 64 / 2 * (np.cos(angle) + np.sin(angle))
    low, high = (np.array([cx + side * one(px), cy + side * one(py)]) for one in (np.min, np.max))
    np.testing.assert_allclose(box, [*(low - half), *(high + half)], atol=1e-3)

    found = squares.in_boxes(tf.constant(mask[None]), tf.constant([SQUARE]), tf.constant(box[None]), 32)[0]
    image_x, image_y = (box[axis] + (box[axis + 2] - box[axis]) * centres(32)[axis] for axis in (0, 1))
    u, v = turned((image_x - cx) / side, (image_y - cy) / side, -angle)
    expected = map_coordinates(mask, [(v + 0.5) * 64 - 0.5, (u + 0.5) * 64 - 0.5], order=1)
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_a_box_ends_at_the_image_and_an_empty_mask_has_none():
    masks = tf.stack([tf.ones([8, 8]), tf.zeros([8, 8])])
    found = squares.bounds(masks, tf.constant([(10, 5, 40, 0)] * 2, tf.float32), tf.constant([30, 20])).numpy()
    np.testing.assert_allclose(found[0], [0, 0, 20, 25])
    assert found[1, 2] < found[1, 0]


def test_blocks_of_a_sparse_tensor_are_put_in_place():
    """A matrix of 4 x 6 in blocks of 2 x 3: one of them at the upper right, one at the lower left."""
    level = lambda **given: SimpleNamespace(**{"format": 0, **given})  # noqa: E731
    rows = level(denseSize=2)
    columns = level(
        format=1,
        arraySegments=SimpleNamespace(values=np.array([0, 1, 2])),
        arrayIndices=SimpleNamespace(values=np.array([1, 0])),
    )
    blocks = [level(denseSize=2), level(denseSize=3)]
    sparsity = SimpleNamespace(traversalOrder=[0, 1, 2, 3], blockMap=[0, 1], dimMetadata=[rows, columns, *blocks])
    expected = [[0, 0, 0, 1, 2, 3], [0, 0, 0, 4, 5, 6], [7, 8, 9, 0, 0, 0], [10, 11, 12, 0, 0, 0]]
    np.testing.assert_array_equal(dense(np.arange(1, 13), (4, 6), sparsity), expected)
