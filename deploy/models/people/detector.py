"""The detector's output: anchors, boxes of faces, overlaps, and the square around each person.

A row has 12 numbers in pixels of the input: centre x and y and width and height of the face, then x and y of four
points. The first point is the middle of the hips. The second lies on the circle around the whole person; it says how
large the square is, and which way is up.

Source: MediaPipe, modules/pose_detection/pose_detection_cpu.pbtxt (all constants), the calculators that it names, and
tasks/cc/vision/pose_detector/pose_detector_graph.cc (points and margin of the square).
"""

import numpy as np
import tensorflow as tf

from handler.types import Array

SIDE_PX = 224
STRIDES = (8, 16, 32, 32, 32)  # of five layers, each with two anchors in a cell: 2254
ANCHORS_A_CELL = 2
MIN_SCORE = 0.5  # the default of MediaPipe's tasks
MAX_OVERLAP = 0.3
MAX_PEOPLE = 16
SCORE_LIMIT = 100.0  # of a logit
MARGIN = 1.25


def anchors() -> Array:
    """Return the centres of the anchors, float32 [2254, 2], x and y in 0..1.

    Layers of one stride share their cells: a cell of stride 32 has all six of its anchors in a row.
    """
    layers = []
    for stride in dict.fromkeys(STRIDES):
        count = SIDE_PX // stride
        y, x = np.mgrid[:count, :count]
        cells = (np.stack([x, y], -1).reshape(-1, 2) + 0.5) / count
        layers.append(cells.repeat(ANCHORS_A_CELL * STRIDES.count(stride), 0))
    return np.concatenate(layers).astype(np.float32)


def decode(rows: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the boxes [k, 4], x1, y1, x2, y2, and the points [k, 4, 2], x and y, of rows float32 [k, 12].

    ``rows`` belong to all anchors. What is returned is in 0..1 of the input, and beyond.
    """
    pairs = tf.reshape(rows / SIDE_PX, [-1, 6, 2])
    corner, size, points = pairs[:, 0] + anchors(), pairs[:, 1], pairs[:, 2:] + anchors()[:, None]
    return tf.concat([corner - size / 2, corner + size / 2], -1), points


def people(rows: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Return the points [n, 4, 2] of the people in the detector's output, rows [2254, 12] and logits [2254].

    A person is the best box, with the mean of all points whose boxes overlap it, weighted by score.
    """
    boxes, points = decode(rows)
    scores = tf.sigmoid(tf.clip_by_value(logits, -SCORE_LIMIT, SCORE_LIMIT))
    kept = tf.image.non_max_suppression(boxes, scores, MAX_PEOPLE, MAX_OVERLAP, MIN_SCORE)
    overlap = _overlap(tf.gather(boxes, kept), boxes) > MAX_OVERLAP
    first = overlap & (tf.cumsum(tf.cast(overlap, tf.int32), 0) == 1)  # a box belongs to one person, the best
    weights = tf.where(first & (scores >= MIN_SCORE), scores, 0.0)
    return tf.einsum("nk,kpd->npd", weights, points) / tf.reduce_sum(weights, 1)[:, None, None]


def squares(points: tf.Tensor) -> tf.Tensor:
    """Return the squares [n, 4] around people by their points [n, 4, 2], both in pixels of the image."""
    centre = points[:, 0]
    up = points[:, 1] - centre
    side = 2 * tf.norm(up, axis=1) * MARGIN
    return tf.concat([centre, side[:, None], tf.atan2(up[:, 0], -up[:, 1])[:, None]], 1)


def _overlap(some: tf.Tensor, others: tf.Tensor) -> tf.Tensor:
    """Return the IoU [n, k] of boxes [n, 4] and [k, 4]."""
    low = tf.maximum(some[:, None, :2], others[None, :, :2])
    high = tf.minimum(some[:, None, 2:], others[None, :, 2:])
    both = tf.reduce_prod(tf.maximum(high - low, 0.0), -1)
    areas = [tf.reduce_prod(boxes[:, 2:] - boxes[:, :2], -1) for boxes in (some, others)]
    return tf.math.divide_no_nan(both, areas[0][:, None] + areas[1][None] - both)
