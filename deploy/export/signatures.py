"""Three ways to serve one source: float32 as it is, int8 by the article's recipe, int8 by the repaired boundary.

Bytes of one answer at 1024 x 1024, 100 rows, 28 x 28 masks, 81 classes: float32 25.4 MB, article 6.35 MB (up to ten
times that where codes are negative and travel as varints), boundary 78 kB.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from deploy.export import frame
from deploy.export.source import Source
from handler.contract import (
    CONTRACT_OUTPUT,
    CONTRACT_QUERY,
    CONTRACT_SIGNATURE,
    DetectionOutput,
    ImageInput,
    MaskOutput,
    ModelContract,
)

SERVING = "serving_default"
MASK_LEVELS = 127  # code = round(127 p): 0..127, one byte each in either of TensorFlow Serving's encodings
IMAGE_ZERO_POINT = -128  # pixel = code + 128, lossless

Functions = dict[str, Callable[..., Any]]


class Exported(tf.Module):
    """The object that is saved: it owns the source's variables and the functions of its signatures.

    It owns TensorFlow's variables, not Keras's around them: those are saved as copies, and a SavedModel loaded by its
    graph, as TensorFlow Serving does, would restore the copies and never the variables that the functions read.
    """

    def __init__(self, source: Source) -> None:
        super().__init__()
        self.weights = [variable.value for variable in source.model.variables]
        self.functions: Functions = {}


def float32(source: Source) -> Exported:
    """The source unchanged: float32 image, meta and anchors up, float32 masks of every class down."""
    return _matterport(source, tf.float32, lambda detections, masks: (detections, masks))


def article(source: Source) -> Exported:
    """The article's recipe: int8 image cast in the graph, masks `cast(p * 255, int8)` for every class.

    Lossy: what lies above 127/255 saturates or wraps (undefined in TensorFlow), and bright pixels have no code.
    Kept for clients that already run it.
    """
    return _matterport(source, tf.int8, lambda detections, masks: (detections, tf.cast(masks * 255, tf.int8)))


def _matterport(source: Source, image_type: tf.DType, finish: Callable[..., tuple[tf.Tensor, tf.Tensor]]) -> Exported:
    exported = Exported(source)

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, None, None, 3], image_type, "input_image"),
            tf.TensorSpec([None, 12 + source.num_classes], tf.float32, "input_image_meta"),
            tf.TensorSpec([None, None, 4], tf.float32, "input_anchors"),
        ]
    )
    def serve(input_image: tf.Tensor, input_image_meta: tf.Tensor, input_anchors: tf.Tensor) -> dict[str, tf.Tensor]:
        detections, masks = finish(*source(tf.cast(input_image, tf.float32), input_image_meta, input_anchors))
        return {"mrcnn_detection": detections, "mrcnn_mask": masks}

    exported.functions = {SERVING: serve}
    return exported


def boundary(source: Source) -> Exported:
    """The repaired boundary: the resized image as lossless int8 up, each detection's own mask as int8 down.

    input_image int8 (1, h, w, 3), pixel = code + 128; mrcnn_detection float32 (1, N, 6), normalised to the padded frame
    as the source gives it; mrcnn_mask int8 (1, N, mh, mw), p = code / 127. `segment_contract` tells all this as JSON.
    """
    exported = Exported(source)
    settings, text = source.settings, boundary_contract(source).to_json()

    @tf.function(input_signature=[tf.TensorSpec([1, None, None, 3], tf.int8, "input_image")])
    def serve(input_image: tf.Tensor) -> dict[str, tf.Tensor]:
        size_hw = tf.shape(input_image)[1:3]
        frame_hw = frame.frame_size(size_hw, settings.resize)
        pixels = tf.cast(input_image, tf.float32) - IMAGE_ZERO_POINT
        detections, masks = source(
            frame.pad(pixels, frame_hw, settings.mean),
            frame.meta(size_hw, frame_hw, source.num_classes),
            frame.anchors(frame_hw, settings.anchors),
        )
        own = tf.gather(masks, tf.cast(detections[..., 4], tf.int32), axis=4, batch_dims=2)
        return {"mrcnn_detection": detections, "mrcnn_mask": tf.cast(tf.round(own * MASK_LEVELS), tf.int8)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int8, CONTRACT_QUERY)])
    def contract(query: tf.Tensor) -> dict[str, tf.Tensor]:
        return {CONTRACT_OUTPUT: tf.fill(tf.shape(query), text)}

    exported.functions = {SERVING: serve, CONTRACT_SIGNATURE: contract}
    return exported


def boundary_contract(source: Source) -> ModelContract:
    """What the boundary export of a source says of itself."""
    return ModelContract(
        image=ImageInput(dtype="int8", scale=1.0, zero_point=IMAGE_ZERO_POINT, mean=None, padded=False),
        detections=DetectionOutput(),
        masks=MaskOutput(dtype="int8", scale=1 / MASK_LEVELS, zero_point=0, per_class=False),
        resize=source.settings.resize,
        labels=dict(enumerate(source.settings.labels, start=1)),
        source=source.description,
        signature=SERVING,
    )
