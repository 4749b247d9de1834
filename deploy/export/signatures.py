"""Three ways to serve one source: float32 as it is, int8 by the recipe, int8 with repaired inputs and outputs.

Bytes of one answer with 100 rows, 28 x 28 masks and 81 classes: float32 25.4 MB, int8-cast 6.35 MB, int8 78 kB. A
negative code of the article is a varint of ten bytes.
"""

import hashlib
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import msgspec
import tensorflow as tf

from deploy.export import photograph, trial
from deploy.export.answer import answer
from deploy.export.graphs import NOT_INLINED, ExportError
from deploy.export.source import Source
from handler.backend.metadata import META_HEAD
from handler.model.contract import (
    CONTRACT_OUTPUT,
    CONTRACT_QUERY,
    CONTRACT_SIGNATURE,
    DetectionOutput,
    ImageInput,
    JpegInput,
    MaskOutput,
    ModelContract,
)
from handler.types import Inputs

SERVING = "serving_default"
JPEG = "segment_jpeg"
MASK_LEVELS = 127  # code = round(127 p): 0..127, one byte each in either of TensorFlow Serving's encodings
IMAGE_ZERO_POINT = -128  # pixel = code + 128, lossless

Functions = dict[str, Callable[..., Any]]


class Exported(tf.Module):
    """The object that is saved: it owns what the functions of its signatures need.

    ``trial``: inputs that the export runs on before it is put in place. ``warm_up``: by signature, the inputs that the
    server runs it on before it answers.
    """

    def __init__(
        self,
        source: Source,
        functions: Functions,
        trial_inputs: Inputs,
        warm_up: Mapping[str, Inputs] = MappingProxyType({}),
    ) -> None:
        super().__init__()
        self.owned = list(source.graph.owned)
        self.functions = functions
        self.trial = trial_inputs
        self.warm_up = dict(warm_up)


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


def int8(source: Source, *, jpeg: bool = True) -> Exported:
    """Serve by the repaired boundary: the image as lossless int8 up, each detection's own mask as int8 down.

    input_image int8 [1, h, w, 3], pixel = code + 128; mrcnn_detection float32 [1, N, 6]; mrcnn_mask int8
    [1, N, mh, mw], p = code / 127. ``segment_contract`` says all this as JSON.

    With ``jpeg``, a second signature makes the int8 tensor itself: image_jpeg string [n], orientation int32 [n]. It
    runs the same graph on one image after the other, so they may differ in size. TensorFlow rewrites the arithmetic of
    a graph by what stands around it. So both signatures call one function that is not inlined: their answers are equal.

    The function calls signatures that are named after the contract, with the same graphs as ``serving_default`` and
    ``segment_jpeg``. A replica with another contract then refuses the request by name, even if version, types and
    shapes are the same.
    """
    stated = int8_contract(source, jpeg=jpeg)
    fingerprint = _fingerprint(stated)
    stated = msgspec.structs.replace(stated, signature=f"{SERVING}_{fingerprint}")
    if isinstance(stated.jpeg, JpegInput):
        named = msgspec.structs.replace(stated.jpeg, signature=f"{JPEG}_{fingerprint}")
        stated = msgspec.structs.replace(stated, jpeg=named)
    contract_json = stated.to_json()

    image = [tf.TensorSpec([1, None, None, 3], tf.int8, "input_image")]

    @tf.function(input_signature=image, experimental_attributes=NOT_INLINED)
    def segment(input_image: tf.Tensor) -> dict[str, tf.Tensor]:
        rows, masks = answer(source, tf.cast(input_image, tf.int32) - IMAGE_ZERO_POINT)
        return {"mrcnn_detection": rows, "mrcnn_mask": tf.cast(tf.round(masks * MASK_LEVELS), tf.int8)}

    @tf.function(input_signature=image)
    def serve(input_image: tf.Tensor) -> dict[str, tf.Tensor]:
        outputs: dict[str, tf.Tensor] = segment(input_image)
        return outputs

    @tf.function(
        input_signature=[tf.TensorSpec([None], tf.string, "image_jpeg"), tf.TensorSpec([None], tf.int32, "orientation")]
    )
    def serve_jpeg(image_jpeg: tf.Tensor, orientation: tf.Tensor) -> dict[str, tf.Tensor]:
        def serve_one(photo: tuple[tf.Tensor, tf.Tensor]) -> dict[str, tf.Tensor]:
            outputs = segment(photograph.codes(*photo, source.resize)[None])
            return {name: tensor[0] for name, tensor in outputs.items()}

        shapes = segment.get_concrete_function().structured_outputs
        one = {name: tf.TensorSpec(spec.shape[1:], spec.dtype) for name, spec in shapes.items()}
        photos = (image_jpeg, orientation)
        all_outputs: dict[str, tf.Tensor] = tf.map_fn(serve_one, photos, fn_output_signature=one, parallel_iterations=1)
        return all_outputs

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int8, CONTRACT_QUERY)])
    def contract(query: tf.Tensor) -> dict[str, tf.Tensor]:
        return {CONTRACT_OUTPUT: tf.fill(tf.shape(query), contract_json)}

    functions: Functions = {SERVING: serve, stated.signature: serve, CONTRACT_SIGNATURE: contract}
    warm_up: dict[str, Inputs] = {stated.signature: trial.int8_inputs(source)}
    if isinstance(stated.jpeg, JpegInput):
        functions |= {JPEG: serve_jpeg, stated.jpeg.signature: serve_jpeg}
        warm_up[stated.jpeg.signature] = trial.jpeg_inputs(source)
    return Exported(source, functions, trial.int8_inputs(source), warm_up)


def _fingerprint(stated: ModelContract) -> str:
    return hashlib.sha256(stated.to_json().encode()).hexdigest()[:12]


def int8_contract(source: Source, *, jpeg: bool = True) -> ModelContract:
    """Return the contract of a source's int8 export, with the signature for JPEGs or without."""
    return ModelContract(
        schema=2 if jpeg else 1,
        image=ImageInput(dtype="int8", scale=1.0, zero_point=IMAGE_ZERO_POINT, mean=None, padded=False),
        detections=DetectionOutput(boxes="frame" if source.dialect == "matterport" else "image"),
        masks=MaskOutput(dtype="int8", scale=1 / MASK_LEVELS, zero_point=0, per_class=False),
        resize=source.resize,
        labels=dict(source.labels),
        source=f"{source.graph.description} ({source.dialect})",
        signature=SERVING,
        jpeg=JpegInput(signature=JPEG) if jpeg else msgspec.UNSET,
    )
