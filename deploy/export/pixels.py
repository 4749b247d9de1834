"""Pixels as a model takes them: grey or RGB or BGR, in its range, in a frame of fixed size. All inside the graph."""

import tensorflow as tf

from deploy.export.reading import Reading, Scale
from handler.types import Size

GREY = (19595, 38470, 7471)  # 0.299, 0.587, 0.114 in 1/65536, as Pillow and OpenCV weigh R, G and B
IMAGENET_MEAN, IMAGENET_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of RGB, 0..1


def grey(pixels: tf.Tensor) -> tf.Tensor:
    """Return int32 [1, h, w, 1] of RGB pixels int32 [1, h, w, 3], exactly as Pillow's mode L."""
    weighted = tf.reduce_sum(pixels * tf.constant(GREY), -1, keepdims=True)
    return tf.bitwise.right_shift(weighted + 0x8000, 16)


def scaled(pixels: tf.Tensor, scale: Scale | None) -> tf.Tensor:
    """Return pixels float32 [..., 1 or 3] of 0..255 in the range of a model; see Reading."""
    if scale == "0..1":
        return pixels / 255
    if scale == "-1..1":
        return pixels / 127.5 - 1
    if scale == "imagenet":
        return (pixels / 255 - tf.constant(IMAGENET_MEAN)) / tf.constant(IMAGENET_DEVIATION)
    return pixels


def fitted_size(size_hw: tf.Tensor, frame_hw: Size) -> tf.Tensor:
    """Return the size int32 [2] of an image that fills a frame of fixed size as far as its aspect allows."""
    size, frame = tf.cast(size_hw, tf.float64), tf.constant(frame_hw, tf.float64)
    fitted = tf.cast(tf.round(size * tf.reduce_min(frame / size)), tf.int32)
    return tf.clip_by_value(fitted, 1, tf.constant(frame_hw))


def framed(pixels: tf.Tensor, frame_hw: Size, reading: Reading) -> tf.Tensor:
    """Return scaled pixels float32 [1, h, w, channels] in a frame of fixed size: float32 [1, *frame_hw, channels].

    The image fills it, squeezed, or with its aspect kept: then it lies at the top left. The rest is black, or zero for
    ``imagenet``, as in the Model Garden. Source: tensorflow/models, official/vision/serving/detection.py.
    """
    if reading.resize == "stretch":
        return tf.ensure_shape(tf.image.resize(pixels, frame_hw), [1, *frame_hw, None])
    size_hw = fitted_size(tf.shape(pixels)[1:3], frame_hw)
    after = tf.constant(frame_hw) - size_hw
    sides = tf.stack([[0, 0], [0, after[0]], [0, after[1]], [0, 0]])
    rest = -1.0 if reading.scale == "-1..1" else 0.0
    padded = tf.pad(tf.image.resize(pixels, size_hw), sides, constant_values=rest)
    return tf.ensure_shape(padded, [1, *frame_hw, None])


def to_image(pixels: tf.Tensor, image: tf.TensorSpec, frame_hw: Size | None, reading: Reading) -> tf.Tensor:
    """Return the image input of a detection model for RGB pixels int32 [1, h, w, 3], 0..255.

    ``frame_hw``: its size, None if the model takes any.
    """
    chosen = grey(pixels) if image.shape[3] == 1 else pixels
    if image.dtype.is_floating:
        chosen = scaled(tf.cast(chosen, tf.float32), reading.scale)
    if frame_hw is not None:
        chosen = framed(tf.cast(chosen, tf.float32), frame_hw, reading)
        chosen = chosen if image.dtype.is_floating else tf.round(chosen)
    return tf.cast(ordered(chosen, reading), image.dtype)


def ordered(pixels: tf.Tensor, reading: Reading) -> tf.Tensor:
    """Return pixels [..., channels] in the model's order of channels."""
    return tf.reverse(pixels, [-1]) if reading.bgr else pixels
