"""The dialect of a graph: Matterport's Mask R-CNN, the Object Detection API (and Hub), the Model Garden, or YOLO.

================  =================================================================================================
matterport        input_image float32 [b, H, W, 3 or 1], perhaps input_image_meta [b, 12 + classes] and input_anchors
                  [b, A, 4] -> mrcnn_detection [b, N, 6], mrcnn_mask [b, N, h, w, classes] or [b, N, h, w], by these or
                  other names: :mod:`handler.model.matterport`
object-detection  an image [b, H, W, 3 or 1] of whole numbers or floats -> detection_boxes [1, N, 4] normalised to the
                  image, detection_classes, detection_scores [1, N], detection_masks [1, N, h, w], num_detections [1]
model-garden      the same, with boxes in pixels of the image as the graph resized it, and image_info [1, 4, 2]: rows
                  original size, size asked for, scale, offset
yolo              an image float32 [1, H, W, 3] -> two outputs of any name; see :mod:`deploy.export.yolo`
================  =================================================================================================

b is 1 or free. H and W of an image are free, or both fixed.

Sources: matterport/Mask_RCNN, mrcnn/model.py; tensorflow/models, research/object_detection/exporter_lib_v2.py and
official/vision/serving/detection.py.
"""

import dataclasses
from collections.abc import Mapping
from typing import TypeVar

import tensorflow as tf

from deploy.export import yolo
from deploy.export.graphs import ExportError, Graph, Signature, Tensors, describe
from deploy.export.kinds import WRAP, Dialect
from deploy.export.reading import Reading
from handler.model import matterport
from handler.model.matterport import ANCHORS, DETECTIONS, IMAGE, MASKS, META

DETECTION = ("detection_boxes", "detection_classes", "detection_scores", "detection_masks")
IMAGE_INFO, COUNT = "image_info", "num_detections"
IMAGE_TYPES = (tf.uint8, tf.int32, tf.int64, tf.float32, tf.float16)
MARKS: dict[Dialect, tuple[str, ...]] = {  # the outputs that show a dialect
    "matterport": matterport.OUTPUTS,
    "object-detection": DETECTION,
    "model-garden": (*DETECTION, IMAGE_INFO),
    "yolo": yolo.OUTPUTS,
}
RANKS = {
    "detection_boxes": 3,
    "detection_classes": 2,
    "detection_scores": 2,
    "detection_masks": 4,
    IMAGE_INFO: 3,
    IMAGE: 4,
    META: 2,
    ANCHORS: 3,
    DETECTIONS: 3,
}
ONE_IMAGE = "export it again for one image, or any number (IMAGES_PER_GPU = 1, --batch_size=1, batch=1)"

T = TypeVar("T")
Names = Mapping[str, str]  # a dialect's name of a tensor -> the model's


def recognise(graph: Graph, requested: str | None, reading: Reading) -> tuple[Dialect, Graph]:
    """Return the dialect of a graph, and the graph under the dialect's names.

    The dialect is ``requested``, or else the one that the outputs show. Raises ExportError, with inputs and outputs, if
    no dialect fits, if several do, or if the requested one does not.
    """
    try:
        dialect, names = _recognise(graph, requested, reading)
    except ExportError as error:
        fits = [name for name, other in sorted(graph.others.items()) if _fits(other, requested, reading)]
        if fits:
            raise ExportError(f"{error}; its signature {fits[0]} can be exported: --signature {fits[0]}") from error
        raise
    return dialect, _renamed(graph, names)


def _fits(signature: Signature, requested: str | None, reading: Reading) -> bool:
    try:
        _recognise(signature, requested, reading)
    except ExportError:
        return False
    return True


def _recognise(signature: Signature, requested: str | None, reading: Reading) -> tuple[Dialect, Names]:
    for option, name in (("--detections", reading.detections), ("--masks", reading.masks)):
        if name is not None and name not in signature.outputs:
            raise ExportError(f"{option} must be an output of the model, got {name}; {signature.listing()}")
    found: dict[Dialect, Names] = {}
    if names := _matterport_names(signature, reading):
        found["matterport"] = names
    if names := _detection_names(signature):
        found["model-garden" if IMAGE_INFO in names else "object-detection"] = names
        if IMAGE_INFO in names and requested == "object-detection":
            found["object-detection"] = names
    if not found and (requested == "yolo" or yolo.is_alike(signature)):
        found["yolo"] = yolo.names(signature)
    if not found:
        raise ExportError(_stranger(signature))
    if requested is None and len(found) > 1:
        both = " and ".join(found)
        raise ExportError(f"the model must have one dialect, got {both}: choose with --dialect; {signature.listing()}")
    if requested is not None and requested not in found:
        raise ExportError(f"--dialect {requested} must fit the model, got {signature.listing()}")
    dialect = next(fit for fit in found if requested in (None, fit))
    names = found[dialect]
    if dialect == "matterport":
        _check_matterport(signature, names)
    elif dialect == "yolo":
        head, prototypes = (signature.outputs[names[one]] for one in yolo.OUTPUTS)
        yolo.read(_pixels(signature), head, prototypes, reading.prototypes)
    else:
        _pixels(signature)
        _check_detection(signature, names)
    return dialect, names


def _stranger(signature: Signature) -> str:
    """Return why a model of no dialect is not taken."""
    expected = f"{DETECTIONS} and {MASKS}, or {', '.join(DETECTION)}, or the two of a YOLO"
    hint = f"another: --signature; or {WRAP}"
    if META in matterport.find_inputs(_tensors(signature.inputs)):
        hint = "other names of the first two: --detections and --masks"
    return f"the signature must have outputs {expected}; got {signature.listing()} ({hint})"


def _matterport_names(signature: Signature, reading: Reading) -> Names | None:
    """Return the model's names of Matterport's tensors, None if it has no such outputs."""
    inputs = matterport.find_inputs(_tensors(signature.inputs))
    named = (reading.detections, reading.masks)
    outputs = matterport.find_outputs(_tensors(signature.outputs), named, by_shape=META in inputs)
    if outputs is None:
        return None
    return {**inputs, DETECTIONS: outputs[0], MASKS: outputs[1]}


def _detection_names(signature: Signature) -> Names | None:
    """Return the model's names of an image and detections, None if it has no such outputs."""
    outputs = {name.partition(":")[0]: name for name in signature.outputs}
    if not set(DETECTION) <= set(outputs):
        return None
    return {name: outputs[name] for name in (*DETECTION, COUNT, IMAGE_INFO) if name in outputs}


def _tensors(specs: Mapping[str, tf.TensorSpec]) -> dict[str, matterport.Tensor]:
    return {
        name: matterport.Tensor(spec.dtype.name, None if spec.shape.rank is None else tuple(spec.shape.as_list()))
        for name, spec in specs.items()
    }


def _renamed(graph: Graph, names: Names) -> Graph:
    """Return a graph under a dialect's names.

    Other tensors keep their own names. If a named tensor takes the name of another one, the other one is left out.
    """
    own = {name: one for one, name in names.items()}

    def renamed(found: Mapping[str, T]) -> dict[str, T]:
        return {own.get(name, name): value for name, value in found.items() if name in own or name not in names}

    def call(tensors: Tensors) -> Tensors:
        return renamed(graph.call({names.get(name, name): tensor for name, tensor in tensors.items()}))

    return dataclasses.replace(
        graph,
        names=names,
        inputs=renamed(graph.inputs),
        outputs=renamed(graph.outputs),
        call=call,
    )


def _check_matterport(signature: Signature, names: Names) -> None:
    specs = {**signature.inputs, **signature.outputs}
    if not set(signature.inputs) <= set(names.values()) or IMAGE not in names:
        expected = f"{IMAGE}, perhaps {META} and {ANCHORS}, and no others"
        raise ExportError(f"the model must have the inputs {expected}, got {signature.listing()}: {WRAP}")
    _check_image(specs[names[IMAGE]], names[IMAGE])
    for one in (IMAGE, META, ANCHORS, DETECTIONS):
        if one in names:
            spec = specs[names[one]]
            hint = "; an int8 export is no source: export from float32" if spec.dtype == tf.int8 else ""
            hint = hint or _misnamed(signature, one)
            if spec.dtype != tf.float32 or spec.shape.rank not in (RANKS[one], None):
                raise ExportError(f"{names[one]} must be float32 of rank {RANKS[one]}, got {describe(spec)}{hint}")
    masks = specs[names[MASKS]]
    if masks.shape.rank not in (4, 5, None) or masks.dtype in (tf.string, tf.int8):
        raise ExportError(
            f"{names[MASKS]} must be masks of rank 5, or 4 with the class chosen, got {describe(masks)}"
            f"{_misnamed(signature, MASKS)}"
        )
    if masks.shape.rank == 5 and masks.shape[4] == 1:
        raise ExportError(
            f"{names[MASKS]} must have a mask for each class, got {describe(masks)}, one for all: leave the last axis "
            f"out, and {WRAP}"
        )


def _misnamed(signature: Signature, one: str) -> str:
    """Return what to do if a signature gives the name of an output to another tensor."""
    if one not in (DETECTIONS, MASKS):
        return ""
    return (
        ": the signature gives this name to another tensor, as scripts with fixed tensor names do for two images a "
        f"batch. Save model.outputs of a model with IMAGES_PER_GPU = 1, or name the right output: --detections, "
        f"--masks; got {signature.listing()}"
    )


def _pixels(signature: Signature) -> tf.TensorSpec:
    """Return the one input of a model that is not Matterport's. Raises ExportError if it is no image of pixels."""
    if len(signature.inputs) != 1:
        raise ExportError(f"the model must have one input, the image, got {signature.listing()}: {WRAP}")
    ((name, image),) = signature.inputs.items()
    if image.dtype == tf.string:
        raise ExportError(
            f"the image input must be pixels, got {name} {describe(image)}, an encoded image or a tf.Example: export "
            "the model again with the input type image_tensor (--input_type=image_tensor)"
        )
    if image.dtype not in IMAGE_TYPES:
        expected = f"one of {', '.join(dtype.name for dtype in IMAGE_TYPES)}"
        hint = "; an int8 export is no source: export from float32" if image.dtype == tf.int8 else ""
        raise ExportError(f"the image input must be {expected}, got {name} {describe(image)}{hint}")
    _check_image(image, name)
    return image


def _check_detection(signature: Signature, names: Names) -> None:
    for one, output in names.items():
        spec = signature.outputs[output]
        if one in RANKS and spec.shape.rank not in (RANKS[one], None):
            raise ExportError(f"{output} must be of rank {RANKS[one]}, got {describe(spec)}")
    for one in ("detection_boxes", "detection_scores"):
        if not signature.outputs[names[one]].dtype.is_floating:
            raise ExportError(f"{one} must be of floating point, got {describe(signature.outputs[names[one]])}")
    for one in ("detection_classes", "detection_masks"):
        if signature.outputs[names[one]].dtype == tf.string:
            raise ExportError(f"{one} must be numbers, got {describe(signature.outputs[names[one]])}: {WRAP}")


def _check_image(image: tf.TensorSpec, name: str) -> None:
    """Raise ExportError if no photograph can be brought into this shape, with what to do."""
    if image.shape.rank != 4:
        raise ExportError(f"the image input must be [1, H, W, 3], got {name} {describe(image)}: {WRAP}")
    batch, height, width, channels = image.shape.as_list()
    if batch not in (1, None):
        raise ExportError(f"{name} must take one image at a time, got {describe(image)}: {ONE_IMAGE}")
    if channels == 4:
        raise ExportError(
            f"{name} must take 3 channels, or 1 of grey, got {describe(image)}: a photograph has no fourth channel. If "
            f"the model can do without, {WRAP}; else the function cannot serve it"
        )
    if channels not in (1, 3, None):
        hint = "channels come last here: transpose in the wrapper. " if height in (1, 3) else ""
        raise ExportError(f"{name} must take 3 channels, or 1 of grey, got {describe(image)}: {hint}{WRAP}")
    if (height is None) != (width is None):
        raise ExportError(f"height and width must be fixed both or neither, got {name} {describe(image)}: {WRAP}")


def image_of(graph: Graph) -> tf.TensorSpec:
    """Return the one input of a detection graph."""
    (image,) = graph.inputs.values()
    return image


def normalised_rows(
    outputs: Tensors, size_hw: tf.Tensor, dialect: Dialect, reading: Reading
) -> tuple[tf.Tensor, tf.Tensor]:
    """Return rows float32 [1, N, 6] (y1, x1, y2, x2 in 0..1 of the image, class, score) and masks [1, N, h, w].

    ``size_hw`` int32 [2] is the size of the image that the graph got. Rows past the count or of class 0 come last, as
    zeros; masks keep their type and values.
    """
    boxes, classes, scores = (tf.cast(outputs[name][:1], tf.float32) for name in DETECTION[:3])
    masks = outputs[DETECTION[3]][:1]
    if dialect == "model-garden":
        scale = tf.cast(outputs[IMAGE_INFO][0, 2], tf.float32)
        boxes /= tf.tile(scale * tf.cast(size_hw, tf.float32), [2])
    count = tf.shape(boxes)[1]
    if COUNT in outputs:
        count = tf.cast(tf.reshape(outputs[COUNT], [-1])[0], tf.int32)
    real = tf.range(tf.shape(boxes)[1]) < count
    if reading.first_class == 0:
        real &= (scores[0] > 0) | (COUNT in outputs)  # without a count, rows without a score fill the list
        classes += 1
    real &= classes[0] > 0
    if reading.score_values is not None:
        scores = {"0..1": scores, "0..100": scores / 100, "logits": tf.sigmoid(scores)}[reading.score_values]
    rows = tf.concat([boxes, classes[..., None], scores[..., None]], -1)
    order = tf.argsort(tf.cast(~real, tf.int32), stable=True)
    kept = tf.gather(real, order)[None, :, None]
    rows, masks = tf.gather(rows, order, axis=1), tf.gather(masks, order, axis=1)
    # what is past the count may be NaN
    return tf.where(kept, rows, 0.0), tf.where(kept[..., None], masks, tf.zeros([], masks.dtype))
