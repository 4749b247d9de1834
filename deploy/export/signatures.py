"""Three ways to serve one source: float32 as it is, int8 by the recipe, int8 with repaired inputs and outputs.

Bytes of one answer with 100 rows, 28 x 28 masks and 81 classes: float32 25.4 MB, int8-cast 6.35 MB, int8 78 kB. A
negative code of the article is a varint of ten bytes.
"""

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import numpy.typing as npt
import tensorflow as tf

from deploy.export import trial
from deploy.export.answer import answer
from deploy.export.graphs import ExportError
from deploy.export.source import Source
from handler.backend.metadata import META_HEAD
from handler.model.contract import (
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
Inputs = Mapping[str, npt.NDArray[Any]]


class Exported(tf.Module):
    """The object that is saved: it owns what the functions of its signatures need.

    ``trial``: inputs that the export runs on before it is put in place. ``warm_up``: the signature that the server runs
    them on before it answers, "" for none.
    """

    def __init__(self, source: Source, functions: Functions, trial_inputs: Inputs, *, warm_up: str = "") -> None:
        super().__init__()
        self.owned = list(source.graph.owned)
        self.functions = functions
        self.trial = trial_inputs
        self.warm_up = warm_up


def float32(source: Source) -> Exported:
    """Serve the source unchanged: float32 image, meta and anchors up, float32 masks of every class down."""
    return _matterport(source, tf.float32, lambda masks: masks)


def int8_cast(source: Source) -> Exported:
    """Serve by the recipe: int8 image cast in the graph, masks ``cast(p * 255, int8)`` for every class.

    Lossy: mask values above 127/255 saturate or wrap (undefined in TensorFlow), and bright pixels have no code. It is
    here for clients that already run it.
    """
    return _matterport(source, tf.int8, lambda masks: tf.cast(masks * 255, tf.int8))


def _matterport(source: Source, image_type: tf.DType, encode: Callable[[tf.Tensor], tf.Tensor]) -> Exported:
    if not source.is_plain:
        expected = "with input_image of 3 channels, meta, anchors and a mask for each class"
        raise ExportError(f"this recipe is for Matterport models {expected}, got one of {source.dialect}: export int8")

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, None, None, 3], image_type, "input_image"),
            tf.TensorSpec([None, META_HEAD + source.num_classes], tf.float32, "input_image_meta"),
            tf.TensorSpec([None, None, 4], tf.float32, "input_anchors"),
        ]
    )
    def serve(input_image: tf.Tensor, input_image_meta: tf.Tensor, input_anchors: tf.Tensor) -> dict[str, tf.Tensor]:
        image = tf.cast(input_image, tf.float32)
        outputs = source.graph.call(
            {"input_image": image, "input_image_meta": input_image_meta, "input_anchors": input_anchors}
        )
        return {"mrcnn_detection": outputs["mrcnn_detection"], "mrcnn_mask": encode(outputs["mrcnn_mask"])}

    return Exported(source, {SERVING: serve}, trial.matterport_inputs(source, image_type.as_numpy_dtype))


def int8(source: Source) -> Exported:
    """Serve by the repaired boundary: the image as lossless int8 up, each detection's own mask as int8 down.

    input_image int8 [1, h, w, 3], pixel = code + 128; mrcnn_detection float32 [1, N, 6]; mrcnn_mask int8
    [1, N, mh, mw], p = code / 127. ``segment_contract`` says all this as JSON.

    The function calls a signature that is named after the contract, with the same graph as ``serving_default``. A
    replica with another contract then refuses the request by name, even if version, types and shapes are the same.
    """
    stated = int8_contract(source)
    stated = msgspec.structs.replace(stated, signature=f"{SERVING}_{_fingerprint(stated)}")
    contract_json = stated.to_json()

    @tf.function(input_signature=[tf.TensorSpec([1, None, None, 3], tf.int8, "input_image")])
    def serve(input_image: tf.Tensor) -> dict[str, tf.Tensor]:
        rows, masks = answer(source, tf.cast(input_image, tf.int32) - IMAGE_ZERO_POINT)
        return {"mrcnn_detection": rows, "mrcnn_mask": tf.cast(tf.round(masks * MASK_LEVELS), tf.int8)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int8, CONTRACT_QUERY)])
    def contract(query: tf.Tensor) -> dict[str, tf.Tensor]:
        return {CONTRACT_OUTPUT: tf.fill(tf.shape(query), contract_json)}

    functions = {SERVING: serve, stated.signature: serve, CONTRACT_SIGNATURE: contract}
    return Exported(source, functions, trial.int8_inputs(source), warm_up=stated.signature)


def _fingerprint(stated: ModelContract) -> str:
    return hashlib.sha256(stated.to_json().encode()).hexdigest()[:12]


def int8_contract(source: Source) -> ModelContract:
    """Return the contract of a source's int8 export."""
    return ModelContract(
        image=ImageInput(dtype="int8", scale=1.0, zero_point=IMAGE_ZERO_POINT, mean=None, padded=False),
        detections=DetectionOutput(boxes="frame" if source.dialect == "matterport" else "image"),
        masks=MaskOutput(dtype="int8", scale=1 / MASK_LEVELS, zero_point=0, per_class=False),
        resize=source.resize,
        labels=dict(source.labels),
        source=f"{source.graph.description} ({source.dialect})",
        signature=SERVING,
    )
