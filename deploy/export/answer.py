"""From pixels to rows and masks: what stands around the graph of a source in an int8 export."""

import tensorflow as tf

from deploy.export import dialects, frame, pixels, yolo
from deploy.export.graphs import Tensors
from deploy.export.reading import Reading
from deploy.export.source import Source
from handler.model.matterport import ANCHORS, DETECTIONS, IMAGE, MASKS, META

MASK_PX = 112  # side of a mask that is cut out of one of the whole image
MASK_LEVELS = 127  # code = round(127 p): 0..127, one byte each in either of TensorFlow Serving's encodings
IMAGE_ZERO_POINT = -128  # pixel = code + 128, lossless


def rgb_of(codes: tf.Tensor) -> tf.Tensor:
    """Return the pixels int32, 0..255, of codes int8 of the same shape."""
    return tf.cast(codes, tf.int32) - IMAGE_ZERO_POINT


def coded(rows: tf.Tensor, masks: tf.Tensor) -> Tensors:
    """Return the outputs of an int8 export: rows [1, N, 6], and probabilities [1, N, mh, mw] as codes int8."""
    return {DETECTIONS: rows, MASKS: tf.cast(tf.round(masks * MASK_LEVELS), tf.int8)}


def inputs(source: Source, rgb: tf.Tensor) -> Tensors:
    """Return the inputs of a source's graph for pixels int32 [1, h, w, 3], 0..255."""
    if source.dialect == "matterport":
        return _matterport_inputs(source, rgb)
    image = dialects.image_of(source.graph)
    return {str(image.name): pixels.to_image(rgb, image, source.frame_hw, source.reading)}


def rows_and_masks(source: Source, outputs: Tensors, size_hw: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return rows float32 [1, N, 6] and each row's own mask [1, N, mh, mw], 0..1, of a graph's outputs.

    ``size_hw`` int32 [2] is the size of the image. Boxes are normalised to the frame of a Matterport model, and to the
    image for the other dialects.
    """
    if source.dialect == "matterport":
        return outputs[DETECTIONS], probabilities(own_masks(outputs), source.reading)
    frame_hw = size_hw if source.frame_hw is None else tf.constant(source.frame_hw)
    window = frame.window(size_hw, frame_hw, centred=pixels.is_centred(source.reading))
    if source.dialect == "yolo":
        rows, masks = yolo.rows_and_masks(outputs, source.layout, window, source.reading)
    else:
        rows, masks = dialects.normalised_rows(outputs, frame_hw, source.dialect, source.reading)
        masks = probabilities(masks, source.reading)
        if source.reading.mask_of == "image":
            masks = cut_out(masks, rows[..., :4])
    return (rows if source.frame_hw is None else _in_image(rows, frame_hw, window)), masks


def _in_image(rows: tf.Tensor, frame_hw: tf.Tensor, window: tf.Tensor) -> tf.Tensor:
    """Return rows [1, N, 6] in shares of the image at its window in the frame; they come in shares of the frame."""
    frame_size, corner, size = (tf.cast(tf.tile(one, [2]), tf.float32) for one in (frame_hw, window[:2], window[2:]))
    boxes = (rows[..., :4] * frame_size - corner) / (size - corner)
    return tf.concat([boxes, rows[..., 4:]], -1)


def own_masks(outputs: Tensors) -> tf.Tensor:
    """Return the masks [1, N, mh, mw] of a Matterport model, for each row the one of its class."""
    masks = outputs[MASKS]
    if masks.shape.rank == 4:
        return masks
    return tf.gather(masks, tf.cast(outputs[DETECTIONS][..., 4], tf.int32), axis=4, batch_dims=2)


def answer(source: Source, rgb: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the source's rows and masks for pixels int32 [1, h, w, 3]; see :func:`rows_and_masks`."""
    return rows_and_masks(source, source.graph.call(inputs(source, rgb)), tf.shape(rgb)[1:3])


def _matterport_inputs(source: Source, rgb: tf.Tensor) -> Tensors:
    size_hw, settings, reading = tf.shape(rgb)[1:3], source.settings, source.reading
    frame_hw = frame.frame_size(size_hw, settings.resize)
    chosen = pixels.grey(rgb) if source.channels == 1 else rgb
    padded = frame.pad(tf.cast(chosen, tf.float32), frame_hw)
    image = pixels.scaled(padded, reading.scale) - tf.constant(settings.mean[: source.channels])
    given = {IMAGE: pixels.ordered(image, reading)}
    if META in source.graph.inputs:
        given[META] = frame.meta(size_hw, frame_hw, source.num_classes, source.channels)
    if ANCHORS in source.graph.inputs:
        given[ANCHORS] = frame.anchors(frame_hw, settings.anchors)
    return given


def probabilities(masks: tf.Tensor, reading: Reading) -> tf.Tensor:
    """Return the values of masks as probabilities float32, unchanged if it is not known what they mean."""
    values = tf.cast(masks, tf.float32)
    if reading.mask_values == "logits":
        return tf.sigmoid(values)
    if reading.mask_values is None:
        return values
    return tf.clip_by_value(values / 255 if reading.mask_values == "0..255" else values, 0.0, 1.0)


def cut_out(masks: tf.Tensor, boxes: tf.Tensor) -> tf.Tensor:
    """Cut boxes [1, N, 4], shares of the image, out of masks [1, N, H, W] of the image: [1, N, MASK_PX, MASK_PX].

    Bilinear at half-pixel centres: pixel i of a side of length n lies at (i + 0.5) / n of the box. The edge of the
    image is repeated, as ``tf.image.crop_and_resize`` would take zeros from half a pixel outside.
    """
    size = tf.cast(tf.tile(tf.shape(masks)[2:], [2]), tf.float32) + 2  # with the repeated edge
    padded = tf.pad(masks[0], [[0, 0], [1, 1], [1, 1]], "SYMMETRIC")[..., None]
    top_left, bottom_right = boxes[0, :, :2], boxes[0, :, 2:]
    half = (bottom_right - top_left) / (2 * MASK_PX)
    corners = tf.concat([top_left + half, bottom_right - half], -1) * (size - 2) + 0.5
    cut = tf.image.crop_and_resize(padded, corners / (size - 1), tf.range(tf.shape(corners)[0]), [MASK_PX, MASK_PX])
    return cut[None, ..., 0]
