"""The dialect of a graph: Matterport's Mask R-CNN, the Object Detection API (and Hub), the Model Garden, or YOLO.

================  =================================================================================================
matterport        input_image float32 [b, H, W, 3], input_image_meta [b, 12 + classes], input_anchors [b, A, 4] ->
                  mrcnn_detection [b, N, 6], mrcnn_mask [b, N, h, w, classes]
object-detection  an image uint8 or float32 [1, any, any, 3] -> detection_boxes [1, N, 4] normalised to the image,
                  detection_classes, detection_scores [1, N], detection_masks [1, N, h, w], num_detections [1]
model-garden      the same, with boxes in pixels of the image as the graph resized it, and image_info [1, 4, 2]: rows
                  original size, size asked for, scale, offset
yolo              an image float32 [1, H, W, 3] -> two outputs of any name; see deploy.export.yolo
================  =================================================================================================

Sources: matterport/Mask_RCNN, mrcnn/model.py; tensorflow/models, research/object_detection/exporter_lib_v2.py and
official/vision/serving/detection.py.
"""

from collections.abc import Mapping

import tensorflow as tf

from deploy.export import yolo
from deploy.export.graphs import ExportError, Graph, describe
from deploy.export.kinds import Dialect

INPUTS = ("input_image", "input_image_meta", "input_anchors")
OUTPUTS = ("mrcnn_detection", "mrcnn_mask")
DETECTION = ("detection_boxes", "detection_classes", "detection_scores", "detection_masks")
IMAGE_INFO, COUNT = "image_info", "num_detections"
IMAGES = [[batch, None, None, channels] for batch in (1, None) for channels in (3, None)]
RANKS = {
    "detection_boxes": 3,
    "detection_classes": 2,
    "detection_scores": 2,
    "detection_masks": 4,
    IMAGE_INFO: 3,
}


def recognise(graph: Graph, requested: str | None) -> Dialect:
    """Return the dialect of a graph: ``requested``, or else the one that its outputs show.

    Raises ExportError, with inputs and outputs, if no dialect fits, if several do, or if the requested one does not.
    """
    fits: list[Dialect] = []
    if set(OUTPUTS) <= set(graph.outputs):
        fits.append("matterport")
    if set(DETECTION) <= set(graph.outputs):
        fits.append("model-garden" if IMAGE_INFO in graph.outputs else "object-detection")
        if IMAGE_INFO in graph.outputs and requested == "object-detection":
            fits.append("object-detection")
    if not fits and (requested == "yolo" or yolo.is_alike(graph)):
        fits.append("yolo")
    if not fits:
        expected = f"{' and '.join(OUTPUTS)}, or {', '.join(DETECTION)}, or the two of a YOLO"
        raise ExportError(f"the signature must have outputs {expected}; got {graph.listing()} (another: --signature)")
    if requested is None and len(fits) > 1:
        both = " and ".join(fits)
        raise ExportError(f"the model must have one dialect, got {both}: choose with --dialect; {graph.listing()}")
    if requested is not None and requested not in fits:
        raise ExportError(f"--dialect {requested} must fit the model, got {graph.listing()}")
    dialect: Dialect = next(fit for fit in fits if requested in (None, fit))
    if dialect != "yolo":  # yolo.read checks it
        check = _check_matterport if dialect == "matterport" else _check_detection
        check(graph)
    return dialect


def _check_matterport(graph: Graph) -> None:
    if set(graph.inputs) != set(INPUTS):
        raise ExportError(f"the model must have the inputs {', '.join(INPUTS)} and no others, got {graph.listing()}")
    for name, rank in (*zip(INPUTS, (4, 2, 3), strict=True), *zip(OUTPUTS, (3, 5), strict=True)):
        spec = {**graph.inputs, **graph.outputs}[name]
        if name in INPUTS and spec.shape.rank == rank and spec.shape[0] not in (1, None):
            raise ExportError(f"{name} must take one image at a time, got {describe(spec)}")
        if spec.dtype != tf.float32 or spec.shape.rank not in (rank, None):
            hint = "; an int8 export is no source: export from float32" if spec.dtype == tf.int8 else ""
            raise ExportError(f"{name} must be float32 of rank {rank}, got {describe(spec)}{hint}")


def _check_detection(graph: Graph) -> None:
    if len(graph.inputs) != 1:
        raise ExportError(f"the model must have one input, the image, got {graph.listing()}")
    image = image_of(graph)
    sides = image.shape.as_list() if image.shape.rank == 4 else []
    if image.dtype not in (tf.uint8, tf.float32) or sides not in IMAGES:
        expected = "uint8 or float32 [1, any, any, 3]"
        raise ExportError(f"the image input must be {expected}, got {image.name} {describe(image)}")
    for name, rank in RANKS.items():
        spec = graph.outputs.get(name)
        if spec is not None and spec.shape.rank not in (rank, None):
            raise ExportError(f"{name} must be of rank {rank}, got {describe(spec)}")
    for name in ("detection_boxes", "detection_scores", "detection_masks"):
        if not graph.outputs[name].dtype.is_floating:
            raise ExportError(f"{name} must be of floating point, got {describe(graph.outputs[name])}")


def image_of(graph: Graph) -> tf.TensorSpec:
    """Return the one input of a detection graph."""
    (image,) = graph.inputs.values()
    return image


def normalised_rows(
    outputs: Mapping[str, tf.Tensor], size_hw: tf.Tensor, dialect: Dialect
) -> tuple[tf.Tensor, tf.Tensor]:
    """Return rows float32 [1, N, 6] (y1, x1, y2, x2 in 0..1 of the image, class, score) and masks [1, N, h, w].

    ``size_hw`` int32 [2] is the size of the image. Rows past the count or of class 0 come last, as zeros.
    """
    boxes, classes, scores, masks = (tf.cast(outputs[name][:1], tf.float32) for name in DETECTION)
    if dialect == "model-garden":
        scale = tf.cast(outputs[IMAGE_INFO][0, 2], tf.float32)
        boxes /= tf.tile(scale * tf.cast(size_hw, tf.float32), [2])
    rows = tf.concat([boxes, classes[..., None], scores[..., None]], -1)
    count = tf.shape(rows)[1]
    if COUNT in outputs:
        count = tf.cast(tf.reshape(outputs[COUNT], [-1])[0], tf.int32)
    real = (tf.range(tf.shape(rows)[1]) < count) & (classes[0] > 0)
    order = tf.argsort(tf.cast(~real, tf.int32), stable=True)
    kept = tf.gather(real, order)[None, :, None]
    rows, masks = tf.gather(rows, order, axis=1), tf.gather(masks, order, axis=1)
    return tf.where(kept, rows, 0.0), tf.where(kept[..., None], masks, 0.0)  # what is past the count may be NaN
