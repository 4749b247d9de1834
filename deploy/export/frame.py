"""The model's frame inside the graph: padding, and Matterport's meta and anchors, then need not cross the wire.

handler.model.mold does the same in NumPy for graphs that leave it to the client; a test holds the two equal. Geometry
is computed in float64 and rounded to float32 once, as there.
"""

import tensorflow as tf

from handler.model.contract import AnchorInput, Resize
from handler.model.mold import PAD_MULTIPLE


def frame_size(size_hw: tf.Tensor, resize: Resize) -> tf.Tensor:
    """Return the frame int32 [2] around a resized image of ``size_hw`` int32 [2], in mode square or pad64.

    In mode pad64, ``size_hw`` may also be [n, 2].
    """
    if resize.mode == "square":
        return tf.constant([resize.max_dim, resize.max_dim])
    return (size_hw + PAD_MULTIPLE - 1) // PAD_MULTIPLE * PAD_MULTIPLE


def window(size_hw: tf.Tensor, frame_hw: tf.Tensor, *, centred: bool = True) -> tf.Tensor:
    """Return the image's place in the frame, its centre or its upper left corner: int32 [4].

    They are top, left, bottom, right; the last two are exclusive.
    """
    corner = (frame_hw - size_hw) // 2 if centred else tf.zeros_like(size_hw)
    return tf.concat([corner, corner + size_hw], 0)


def pad(pixels: tf.Tensor, frame_hw: tf.Tensor, *, centred: bool = True, rest: float | tf.Tensor = 0) -> tf.Tensor:
    """Return pixels [1, h, w, channels] at their window in a frame of one value ``rest``: [1, H, W, channels]."""
    place = window(tf.shape(pixels)[1:3], frame_hw, centred=centred)
    before, after = place[:2], frame_hw - place[2:]
    sides = tf.stack([[0, 0], [before[0], after[0]], [before[1], after[1]], [0, 0]])  # keeps the channels in the shape
    return tf.pad(pixels, sides, constant_values=rest)


def meta(size_hw: tf.Tensor, frame_hw: tf.Tensor, num_classes: int, channels: int = 3) -> tf.Tensor:
    """Return input_image_meta float32 [1, 12 + num_classes]: id 0, sizes, window, scale 1, no active classes."""
    sizes = tf.concat([[0], size_hw, [channels], frame_hw, [channels], window(size_hw, frame_hw), [1]], 0)
    return tf.concat([tf.cast(sizes, tf.float32), tf.zeros(num_classes)], 0)[None]


def count_anchors(frame_hw: tf.Tensor, spec: AnchorInput) -> tf.Tensor:
    """Return how many anchors a frame int32 [2] has: int32 []."""
    cells = (frame_hw + tf.constant(spec.strides)[:, None] - 1) // tf.constant(spec.strides)[:, None]
    return tf.reduce_sum(tf.reduce_prod(cells, 1)) * len(spec.ratios)


def anchors(frame_hw: tf.Tensor, spec: AnchorInput) -> tf.Tensor:
    """Return input_anchors float32 [1, A, 4], normalised, in the order level, y, x, ratio."""
    root = tf.sqrt(tf.constant(spec.ratios, tf.float64))
    levels = []
    for scale, stride in zip(spec.scales, spec.strides, strict=True):
        cells = (frame_hw + stride - 1) // stride
        centre_y = tf.cast(tf.range(cells[0]) * stride, tf.float64)[:, None, None]
        centre_x = tf.cast(tf.range(cells[1]) * stride, tf.float64)[None, :, None]
        grid = tf.zeros([cells[0], cells[1], len(spec.ratios)], tf.float64)
        y, x, half_h, half_w = grid + centre_y, grid + centre_x, grid + scale / root / 2, grid + scale * root / 2
        levels.append(tf.reshape(tf.stack([y - half_h, x - half_w, y + half_h, x + half_w], -1), [-1, 4]))
    extent = tf.cast(tf.tile(frame_hw, [2]) - 1, tf.float64)
    exclusive = tf.constant([0, 0, 1, 1], tf.float64)
    return tf.cast((tf.concat(levels, 0) - exclusive) / extent, tf.float32)[None]
