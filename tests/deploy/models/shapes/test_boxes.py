"""Box arithmetic against pycocotools and against functions whose value is known everywhere."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as coco

from deploy.models.shapes import boxes as bx

corners = hnp.arrays(np.float32, (5, 2), elements=st.floats(0, 150, width=32))
sides = hnp.arrays(np.float32, (5, 2), elements=st.floats(2, 100, width=32))


@settings(deadline=None)
@given(corners, sides)
def test_frames_are_inverses(corner, side):
    boxes = np.concatenate([corner, corner + side], 1)
    size = tf.constant([256, 320])
    np.testing.assert_allclose(bx.to_pixels(bx.to_normalised(boxes, size), size), boxes, atol=1e-3)


@settings(deadline=None)
@given(corners, sides, corners, sides)
def test_decode_undoes_encode(corner, side, anchor_corner, anchor_side):
    boxes = np.concatenate([corner, corner + side], 1)
    anchors = np.concatenate([anchor_corner, anchor_corner + anchor_side], 1)
    np.testing.assert_allclose(bx.decode(anchors, bx.encode(anchors, boxes)), boxes, atol=2e-2)


@settings(deadline=None)
@given(corners, sides, corners, sides)
def test_overlap_equals_pycocotools(corner, side, other_corner, other_side):
    first, second = (
        np.concatenate([corner, corner + side], 1),
        np.concatenate([other_corner, other_corner + other_side], 1),
    )

    def xywh(boxes):
        return np.stack(
            [boxes[:, 1], boxes[:, 0], *(boxes[:, 3:] - boxes[:, 1:2]).T, *(boxes[:, 2:3] - boxes[:, :1]).T], 1
        )

    expected = coco.iou(xywh(first).astype(np.float64), xywh(second).astype(np.float64), [0] * 5)
    np.testing.assert_allclose(bx.iou(first[None], second[None])[0], expected, atol=1e-4)


@pytest.mark.parametrize("size", [7, 14])
def test_pooling_a_ramp_reads_it_at_the_bin_centres(size):
    """Bilinear sampling of a plane is exact, so every bin must hold the plane's value at its own centre."""
    features = []
    for stride in bx.POOL_LEVELS:
        y, x = np.meshgrid(np.arange(256 // stride), np.arange(320 // stride), indexing="ij")
        features.append(np.stack([(y + 0.5) * stride, (x + 0.5) * stride], -1)[None].astype(np.float32))
    boxes = np.array([[30, 40, 50, 71], [64.5, 80.25, 130, 170], [40, 50, 210, 270], [48, 48, 60, 60]], np.float32)
    pooled = bx.pool([tf.constant(f) for f in features], tf.constant(boxes), tf.zeros(4, tf.int32), size).numpy()
    for box, bins in zip(boxes, pooled, strict=True):
        step = (np.arange(size) + 0.5) / size
        np.testing.assert_allclose(
            bins[..., 0], np.repeat((box[0] + (box[2] - box[0]) * step)[:, None], size, 1), atol=1e-2
        )
        np.testing.assert_allclose(
            bins[..., 1], np.repeat((box[1] + (box[3] - box[1]) * step)[None], size, 0), atol=1e-2
        )


def test_pooling_at_the_border_repeats_the_edge():
    features = [tf.ones([1, 64 // stride, 64 // stride, 3]) for stride in bx.POOL_LEVELS]
    boxes = tf.constant([[0.0, 0.0, 64.0, 64.0], [0.0, 0.0, 6.0, 6.0], [58.0, 58.0, 64.0, 64.0]])
    np.testing.assert_allclose(bx.pool(features, boxes, tf.zeros(3, tf.int32), 7), 1.0, atol=1e-5)
