"""What each head should have answered: anchors, proposals and mask bins matched to the truth, all in pixels."""

import tensorflow as tf

from deploy.models.shapes import boxes as bx
from deploy.models.shapes.network import MASK_SIZE

JITTERED = 12  # truths added to each image's proposals, moved and scaled a little
JITTER = 0.12  # of their size
POSITIVES = 6  # proposals of an image whose masks are trained: this head takes a third of a step


def anchor_targets(anchors: tf.Tensor, truth: tf.Tensor, real: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Match anchors [A, 4] to truth [b, G, 4], of which ``real`` bool [b, G] exist.

    An anchor is positive from IoU 0.5 up, or if it is the best one (above 0.2) of an object, and negative below 0.4.
    Others do not count. Return positive bool [b, A], counted bool [b, A], deltas float32 [b, A, 4].
    """
    batch = tf.shape(truth)[0]
    overlap = bx.iou(tf.tile(anchors[None], [batch, 1, 1]), truth) * tf.cast(real, tf.float32)[:, None]
    best, owner = tf.reduce_max(overlap, -1), tf.argmax(overlap, -1)
    best_of_object = tf.reduce_any((overlap >= tf.reduce_max(overlap, 1, keepdims=True)) & (overlap > 0.2), -1)
    positive = (best >= 0.5) | best_of_object
    deltas = bx.encode(anchors[None], tf.gather(truth, owner, batch_dims=1))
    return positive, positive | (best < 0.4), deltas


def jittered(truth: tf.Tensor, real: tf.Tensor, size: float) -> tf.Tensor:
    """Return boxes float32 [b, JITTERED, 4] near random truths: the heads see objects before the RPN finds them."""
    weights = tf.where(real, 0.0, -1e9) * tf.ones_like(truth[..., 0])
    chosen = tf.gather(truth, tf.random.categorical(weights, JITTERED), batch_dims=1)
    extent = tf.tile(chosen[..., 2:] - chosen[..., :2], [1, 1, 2])
    moved = chosen + extent * tf.random.normal(tf.shape(chosen), stddev=JITTER)
    low = tf.clip_by_value(moved[..., :2], 0.0, size - 2)
    return tf.concat([low, tf.clip_by_value(tf.maximum(moved[..., 2:], low + 2), 0.0, size)], -1)


def region_targets(regions: tf.Tensor, truth: tf.Tensor, classes: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Return class int32 [b, n], 0 below IoU 0.5, deltas [b, n, 4], matched truth int64 [b, n] of regions [b, n, 4]."""
    overlap = bx.iou(regions, truth) * tf.cast(classes > 0, tf.float32)[:, None]
    best, owner = tf.reduce_max(overlap, -1), tf.argmax(overlap, -1)
    labels = tf.where(best >= 0.5, tf.gather(classes, owner, batch_dims=1), 0)
    return labels, bx.encode(regions, tf.gather(truth, owner, batch_dims=1)), owner


def mask_targets(ids: tf.Tensor, regions: tf.Tensor, instance_ids: tf.Tensor) -> tf.Tensor:
    """Return float32 0/1 [b, n, 28, 28]: whether ids uint8 [b, S, S] at bin centres equal ``instance_ids`` [b, n]."""
    size = tf.shape(ids)[1]
    centres = (tf.range(MASK_SIZE, dtype=tf.float32) + 0.5) / MASK_SIZE
    at = regions[..., :2, None] + (regions[..., 2:] - regions[..., :2])[..., None] * centres
    cell = tf.clip_by_value(tf.cast(tf.floor(at), tf.int32), 0, size - 1)  # [b, n, 2, 28]
    index = cell[:, :, 0, :, None] * size + cell[:, :, 1, None, :]
    flat = tf.reshape(tf.cast(ids, tf.int32), [tf.shape(ids)[0], -1])
    sampled = tf.gather(flat, index, batch_dims=1)
    return tf.cast(sampled == tf.cast(instance_ids, tf.int32)[..., None, None], tf.float32)
