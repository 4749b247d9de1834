"""A rotated square in an image: what lies in it, and where its points are.

A square is a row cx, cy, side, angle: centre and side in pixels of the image, the angle in radians, clockwise. A point
of it is x, y in 0..1; its upper left corner is 0, 0. In the image, pixel i covers i to i + 1, so its centre is i + 0.5.
"""

from typing import Literal

import tensorflow as tf

PIXELS = ((0.5, 0.5), (1.5, 0.5), (0.5, 1.5))  # the centres of three pixels, x and y, which fix an affine map
Outside = Literal["CONSTANT", "NEAREST"]  # zeros, or the edge of the image


def to_image(squares: tf.Tensor, points: tf.Tensor) -> tf.Tensor:
    """Return points [n or 1, k, 2] of squares [n, 4] in pixels of the image, [n, k, 2]."""
    return squares[:, None, :2] + squares[:, None, 2:3] * _turned(points - 0.5, squares[:, 3])


def to_square(squares: tf.Tensor, points: tf.Tensor) -> tf.Tensor:
    """Return points [n, k, 2] of the image as points of squares [n, 4]: the inverse of :func:`to_image`."""
    return _turned(points - squares[:, None, :2], -squares[:, 3]) / squares[:, None, 2:3] + 0.5


def crops(image: tf.Tensor, squares: tf.Tensor, side_px: int, outside: Outside) -> tf.Tensor:
    """Return squares [n, 4] of an image float32 [1, h, w, c] as images [n, side_px, side_px, c], bilinear."""
    maps = _map(to_image(squares, tf.constant([PIXELS]) / side_px))

    def crop(one: tf.Tensor) -> tf.Tensor:
        return _transformed(image, one[None], side_px, outside)[0]

    return tf.map_fn(crop, maps, fn_output_signature=tf.TensorSpec([side_px, side_px, image.shape[3]], tf.float32))


def bounds(masks: tf.Tensor, squares: tf.Tensor, size_hw: tf.Tensor) -> tf.Tensor:
    """Return the boxes float32 [n, 4], x1, y1, x2, y2 in pixels, around what is over 0.5 in masks [n, s, s] of squares.

    They end at the image, int32 [2]. A box around nothing has x2 < x1.
    """
    side_px = masks.shape[1]
    centre = (tf.range(side_px, dtype=tf.float32) + 0.5) / side_px
    grid = tf.reshape(tf.stack(tf.meshgrid(centre, centre), -1), [1, -1, 2])
    points = to_image(squares, grid)
    inside = tf.reshape(masks > 0.5, [-1, side_px * side_px, 1])
    turn = tf.abs(tf.cos(squares[:, 3:])) + tf.abs(tf.sin(squares[:, 3:]))
    half = squares[:, 2:3] / side_px / 2 * turn  # of a pixel of the mask
    first = tf.reduce_min(tf.where(inside, points, points.dtype.max), 1) - half
    last = tf.reduce_max(tf.where(inside, points, points.dtype.min), 1) + half
    limit_xy = tf.cast(size_hw[::-1], tf.float32)
    return tf.concat([tf.maximum(first, 0.0), tf.minimum(last, limit_xy)], -1)


def in_boxes(masks: tf.Tensor, squares: tf.Tensor, boxes: tf.Tensor, side_px: int) -> tf.Tensor:
    """Return masks float32 [n, s, s] of squares as masks [n, side_px, side_px] of boxes [n, 4], bilinear.

    Boxes are x1, y1, x2, y2 in pixels of the image. Outside of its square a mask is 0.
    """
    points = boxes[:, None, :2] + tf.constant([PIXELS]) / side_px * (boxes[:, None, 2:] - boxes[:, None, :2])
    maps = _map(to_square(squares, points) * masks.shape[1])
    return _transformed(masks[..., None], maps, side_px, "CONSTANT")[..., 0]


def _turned(points: tf.Tensor, angle: tf.Tensor) -> tf.Tensor:
    """Return points [n or 1, k, 2] turned clockwise around 0, 0 by angle [n]."""
    x, y, cos, sin = points[..., 0], points[..., 1], tf.cos(angle)[:, None], tf.sin(angle)[:, None]
    return tf.stack([cos * x - sin * y, sin * x + cos * y], -1)


def _map(mapped: tf.Tensor) -> tf.Tensor:
    """Return the affine map, as TensorFlow's op takes it, that brings PIXELS to the points ``mapped`` [n, 3, 2]."""
    origin, x_step, y_step = mapped[:, 0], mapped[:, 1] - mapped[:, 0], mapped[:, 2] - mapped[:, 0]
    rows = tf.reshape(tf.stack([x_step, y_step, origin - 0.5], -1), [-1, 6])  # the op counts from centres of pixels
    return tf.pad(rows, [[0, 0], [0, 2]])


def _transformed(images: tf.Tensor, maps: tf.Tensor, side_px: int, outside: Outside) -> tf.Tensor:
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=maps,
        output_shape=[side_px, side_px],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode=outside,
    )
