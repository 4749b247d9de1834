"""Box arithmetic on tensors: frames, coding, overlap, pooling. Boxes are y1, x1, y2, x2.

Two frames: *pixels*, with y2 and x2 exclusive; *normalised*, Matterport's (y1 / (H-1), ..., (y2 - 1) / (H-1), ...).
"""

import tensorflow as tf

BOX_STD = (0.1, 0.1, 0.2, 0.2)  # Matterport's RPN_BBOX_STD_DEV
POOL_LEVELS = (4, 8, 16, 32)  # strides of P2..P5
CANONICAL_PX = 32.0  # an object of this size is pooled from P2; each doubling goes one level up


def to_pixels(boxes: tf.Tensor, size_hw: tf.Tensor) -> tf.Tensor:
    """Convert normalised float32 [..., 4] to pixels of an image of ``size_hw`` int32 [2]."""
    scale = tf.cast(tf.tile(size_hw, [2]) - 1, tf.float32)
    return boxes * scale + tf.constant([0.0, 0.0, 1.0, 1.0])


def to_normalised(boxes: tf.Tensor, size_hw: tf.Tensor) -> tf.Tensor:
    """Convert pixels float32 [..., 4] to normalised; the inverse of to_pixels."""
    scale = tf.cast(tf.tile(size_hw, [2]) - 1, tf.float32)
    return (boxes - tf.constant([0.0, 0.0, 1.0, 1.0])) / scale


def encode(anchors: tf.Tensor, boxes: tf.Tensor) -> tf.Tensor:
    """Return deltas float32 [..., 4] (dy, dx, log dh, log dw over BOX_STD) from anchors to boxes, both in pixels."""
    anchor_centre, anchor_size = _centre_size(anchors)
    centre, size = _centre_size(boxes)
    shift = (centre - anchor_centre) / anchor_size
    return tf.concat([shift, tf.math.log(tf.maximum(size, 1.0) / anchor_size)], -1) / BOX_STD


def decode(anchors: tf.Tensor, deltas: tf.Tensor) -> tf.Tensor:
    """Apply deltas to anchors; the inverse of encode, with growth limited to a factor of about 1000/16."""
    centre, size = _centre_size(anchors)
    deltas = deltas * BOX_STD
    centre = centre + deltas[..., :2] * size
    size = size * tf.exp(tf.minimum(deltas[..., 2:], 4.135))
    return tf.concat([centre - size / 2, centre + size / 2], -1)


def _centre_size(boxes: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    size = tf.maximum(boxes[..., 2:] - boxes[..., :2], 1e-3)
    return boxes[..., :2] + size / 2, size


def clip(boxes: tf.Tensor, window: tf.Tensor) -> tf.Tensor:
    """Cut boxes [b, n, 4] to one window [b, 4] for each image, in the same frame."""
    low, high = window[:, None, :2], window[:, None, 2:]
    return tf.concat([tf.clip_by_value(boxes[..., :2], low, high), tf.clip_by_value(boxes[..., 2:], low, high)], -1)


def iou(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """Return IoU float32 [b, n, m], 0..1, of boxes [b, n, 4] and [b, m, 4]; boxes of no area give 0."""
    a, b = a[:, :, None], b[:, None]
    sides = tf.maximum(tf.minimum(a[..., 2:], b[..., 2:]) - tf.maximum(a[..., :2], b[..., :2]), 0.0)
    both = sides[..., 0] * sides[..., 1]
    return both / tf.maximum(_area(a) + _area(b) - both, 1e-6)


def _area(boxes: tf.Tensor) -> tf.Tensor:
    sides = tf.maximum(boxes[..., 2:] - boxes[..., :2], 0.0)
    return sides[..., 0] * sides[..., 1]


def suppress(boxes: tf.Tensor, scores: tf.Tensor, rows: int, overlap: float, floor: float) -> tuple[tf.Tensor, ...]:
    """Suppress non-maxima of each class: boxes float32 [b, n, 4] in pixels, scores float32 [b, n, c].

    ``overlap`` is the IoU above which the weaker of two goes, ``floor`` the least score kept. Return boxes
    [b, rows, 4], scores [b, rows], classes [b, rows] 0..c-1 as float32, counts int32 [b]; best first, padded with 0.
    """
    return tuple(
        tf.image.combined_non_max_suppression(
            boxes[:, :, None], scores, rows, rows, overlap, floor, pad_per_class=False, clip_boxes=False
        )
    )


def pool(features: list[tf.Tensor], boxes: tf.Tensor, owner: tf.Tensor, size: int) -> tf.Tensor:
    """ROI-align: sample each box from the pyramid level of its size, at the centres of size x size bins.

    ``features`` P2..P5, float32 [b, h, w, c]; ``boxes`` float32 [m, 4] in pixels; ``owner`` int32 [m], the box's image.
    Return float32 [m, size, size, c]. Each level repeats its edge by one cell: bins at the border must not read zeros.
    """
    sides = tf.maximum(boxes[:, 2:] - boxes[:, :2], 1.0)
    level = tf.math.log(tf.sqrt(sides[:, 0] * sides[:, 1]) / CANONICAL_PX) / tf.math.log(2.0)
    level = tf.clip_by_value(tf.cast(tf.round(level), tf.int32), 0, len(POOL_LEVELS) - 1)
    pooled, order = [], []
    for index, stride in enumerate(POOL_LEVELS):
        rows = tf.where(level == index)[:, 0]
        chosen = tf.gather(boxes, rows)
        padded = tf.pad(features[index], [[0, 0], [1, 1], [1, 1], [0, 0]], "SYMMETRIC")
        cells = tf.cast(tf.shape(padded)[1:3] - 1, tf.float32)
        half_bin = (chosen[:, 2:] - chosen[:, :2]) / (2 * size)
        first = (chosen[:, :2] + half_bin) / stride + 0.5  # -0.5 to the cell's centre, +1 for the padding
        last = (chosen[:, 2:] - half_bin) / stride + 0.5
        corners = tf.concat([first / cells, last / cells], -1)
        pooled.append(tf.image.crop_and_resize(padded, corners, tf.gather(owner, rows), [size, size]))
        order.append(rows)
    back = tf.argsort(tf.concat(order, 0))
    return tf.gather(tf.concat(pooled, 0), back)
