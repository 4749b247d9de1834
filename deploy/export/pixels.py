"""Pixels as a model takes them: grey or RGB or BGR, in its range, in a frame of fixed size. All inside the graph."""

import tensorflow as tf

from deploy.export import frame
from deploy.export.reading import Reading, Scale
from handler.types import Size

GREY = (19595, 38470, 7471)  # 0.299, 0.587, 0.114 in 1/65536, as Pillow and OpenCV weigh R, G and B
LETTERBOX_GREY = 114
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


def to_image(pixels: tf.Tensor, image: tf.TensorSpec, frame_hw: Size | None, reading: Reading) -> tf.Tensor:
    """Return the image input of a model that is not Matterport's, for RGB pixels int32 [1, h, w, 3], 0..255.

    ``frame_hw``: its size, None if the model takes any. Pixels come resized: they touch two sides of the frame, or all
    in ``stretch``. They lie at its upper left, on black, or at its centre, on grey, in ``letterbox``. With
    ``imagenet``, zeros fill the rest, as in the Model Garden. Sources: tensorflow/models,
    official/vision/serving/detection.py; ultralytics/ultralytics, ultralytics/data/augment.py, LetterBox.
    """
    chosen = grey(pixels) if image.shape[3] == 1 else pixels
    if image.dtype.is_floating:
        chosen = scaled(tf.cast(chosen, tf.float32), reading.scale)
    if frame_hw is not None:
        centred = is_centred(reading)
        level = tf.constant(LETTERBOX_GREY if centred else 0, chosen.dtype)
        rest = tf.zeros_like(level) if reading.scale == "imagenet" else scaled(level, reading.scale)
        framed = frame.pad(chosen, tf.constant(frame_hw), centred=centred, rest=rest)
        chosen = tf.ensure_shape(framed, [1, *frame_hw, None])
    return tf.cast(ordered(chosen, reading), image.dtype)


def is_centred(reading: Reading) -> bool:
    """Tell whether the image lies at the centre of a frame of fixed size, not at its upper left."""
    return reading.resize == "letterbox"


def ordered(pixels: tf.Tensor, reading: Reading) -> tf.Tensor:
    """Return pixels [..., channels] in the model's order of channels."""
    return tf.reverse(pixels, [-1]) if reading.bgr else pixels
