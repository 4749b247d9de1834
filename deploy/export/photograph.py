"""A JPEG inside the graph: its pixels, resized and turned, are those that the function would have sent, to the bit.

handler.image.decode and handler.model.mold do the same with Pillow and simplejpeg. All decode with libjpeg's accurate
integer DCT and its smooth upsampling. All interpolate in float64, in the same order of operations.
Source: python-pillow/Pillow, src/libImaging/Geometry.c, affine_transform and bilinear_filter32RGB.
"""

import tensorflow as tf

from deploy.export.graphs import NOT_INLINED
from handler.model.contract import Resize

_add = tf.function(tf.add, experimental_attributes=NOT_INLINED)  # else a factor is taken out, and the last bit differs
SIDEWAYS, DOWN, ACROSS = (5, 6, 7, 8), (3, 4, 7, 8), (2, 3, 6, 7)  # orientations: transpose, then reverse an axis


def codes(jpeg: tf.Tensor, orientation: tf.Tensor, resize: Resize) -> tf.Tensor:
    """Return the photograph as the function sends it, int8 [h, w, 3], code = pixel - 128; see :func:`pixels`."""
    return tf.bitcast(tf.bitwise.bitwise_xor(pixels(jpeg, orientation, resize), tf.constant(0x80, tf.uint8)), tf.int8)


def pixels(jpeg: tf.Tensor, orientation: tf.Tensor, resize: Resize) -> tf.Tensor:
    """Return the resized photograph uint8 [h, w, 3], RGB, upright.

    ``jpeg`` is a string [], ``orientation`` int32 []: EXIF's 1..8; any other is 1.
    """
    stored = tf.io.decode_jpeg(jpeg, channels=3, dct_method="INTEGER_ACCURATE", fancy_upscaling=True)
    sideways = tf.reduce_any(orientation == SIDEWAYS)
    stored_hw = tf.shape(stored)[:2]
    resized_hw = size_by_rule(_turned(stored_hw, sideways), resize)
    return turn(resized(stored, _turned(resized_hw, sideways)), orientation)


def sizes(jpegs: tf.Tensor, orientations: tf.Tensor, resize: Resize) -> tf.Tensor:
    """Return the sizes int32 [n, 2] of :func:`pixels` for n photographs, of which it reads the headers alone."""

    def size(photo: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        sideways = tf.reduce_any(photo[1] == SIDEWAYS)
        return size_by_rule(_turned(tf.io.extract_jpeg_shape(photo[0])[:2], sideways), resize)

    return tf.map_fn(size, (jpegs, orientations), fn_output_signature=tf.TensorSpec([2], tf.int32))


def _turned(size_hw: tf.Tensor, sideways: tf.Tensor) -> tf.Tensor:
    return tf.where(sideways, tf.reverse(size_hw, [0]), size_hw)


def size_by_rule(size_hw: tf.Tensor, resize: Resize) -> tf.Tensor:
    """Return the size int32 [2] to which an image of ``size_hw`` int32 [2] is resized; see mold.resize_rule."""
    if isinstance(resize.frame_hw, tuple) and resize.mode == "stretch":
        return tf.constant(resize.frame_hw)
    sides = tf.cast(size_hw, tf.float64)
    if isinstance(resize.frame_hw, tuple):
        return _scaled(sides, tf.reduce_min(tf.constant(resize.frame_hw, tf.float64) / sides))
    shorter, longer = tf.reduce_min(sides), tf.reduce_max(sides)
    scale = tf.maximum(tf.constant(resize.min_dim, tf.float64) / shorter, max(1.0, resize.min_scale))
    too_large = tf.round(longer * scale) > resize.max_dim
    return _scaled(sides, tf.where(too_large, tf.constant(resize.max_dim, tf.float64) / longer, scale))


def _scaled(sides: tf.Tensor, scale: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.maximum(tf.round(sides * scale), 1.0), tf.int32)  # half to even, as Python rounds


def resized(image: tf.Tensor, size_hw: tf.Tensor) -> tf.Tensor:
    """Return an image uint8 [H, W, 3], interpolated bilinearly at ``size_hw`` int32 [2]; see mold.resize_image."""
    image_hw = tf.shape(image)[:2]
    return tf.cond(tf.reduce_all(image_hw == size_hw), lambda: image, lambda: _interpolated(image, image_hw, size_hw))


def _interpolated(image: tf.Tensor, image_hw: tf.Tensor, size_hw: tf.Tensor) -> tf.Tensor:
    top, bottom, down = _neighbours(image_hw[0], size_hw[0], size_hw[0] // 2)
    left, right, across = _neighbours(image_hw[1], size_hw[1], 0)

    def row(places: tf.Tensor) -> tf.Tensor:
        chosen = tf.gather(image, places)
        return _between(tf.gather(chosen, left, axis=1), tf.gather(chosen, right, axis=1), across[:, None])

    return tf.cast(_between(row(top), row(bottom), down[:, None, None]), tf.uint8)  # truncates


def _between(one: tf.Tensor, other: tf.Tensor, share: tf.Tensor) -> tf.Tensor:
    first = tf.cast(one, tf.float64)
    return first + (tf.cast(other, tf.float64) - first) * share


def _neighbours(side: tf.Tensor, resized_side: tf.Tensor, start: tf.Tensor | int) -> tuple[tf.Tensor, ...]:
    """Return the two pixels around each sample of an axis, int32 [n], and the share of the second, float64 [n].

    Samples from ``start`` on are counted from there: the function resizes in two halves.
    """
    step = tf.cast(side, tf.float64) / tf.cast(resized_side, tf.float64)
    place = tf.range(resized_side)
    offset = tf.where(place >= start, start, 0)
    centre = tf.cast(place - offset, tf.float64) + 0.5
    at = _add(step * centre, step * tf.cast(offset, tf.float64)) - 0.5
    below = tf.floor(at)
    first = tf.cast(below, tf.int32)
    return tf.clip_by_value(first, 0, side - 1), tf.clip_by_value(first + 1, 0, side - 1), at - below


def turn(image: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Return an image uint8 [h, w, 3] turned upright from EXIF's ``orientation`` int32 []."""
    sideways, down, across = (tf.reduce_any(orientation == those) for those in (SIDEWAYS, DOWN, ACROSS))
    standing = tf.transpose(image, tf.where(sideways, [1, 0, 2], [0, 1, 2]))
    return tf.ensure_shape(tf.raw_ops.Reverse(tensor=standing, dims=tf.stack([down, across, False])), [None, None, 3])
