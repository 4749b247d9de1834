"""Three ways to serve one source: float32 as it is, int8 by the recipe, int8 with repaired inputs and outputs.

Bytes of one answer with 100 rows, 28 x 28 masks and 81 classes: float32 25.4 MB, int8-cast 6.35 MB, int8 78 kB. A
negative code of the article is a varint of ten bytes.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import msgspec
import tensorflow as tf

from deploy.export import batch, photograph, trial
from deploy.export.answer import IMAGE_ZERO_POINT, MASK_LEVELS, answer, coded, rgb_of
from deploy.export.graphs import NOT_INLINED, ExportError, Tensors
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
from handler.model.matterport import ANCHORS, DETECTIONS, IMAGE, MASKS, META
from handler.types import Inputs

SERVING = "serving_default"
JPEG = "segment_jpeg"
IMAGE_SIZE = "image_size"

Functions = dict[str, Callable[..., Any]]


class Exported(tf.Module):
    """The object that is saved: it owns what the functions of its signatures need.

    ``trial``: inputs that the export runs on before it is put in place. ``warm_up``: by signature, the inputs that the
    server runs it on before it answers. ``batch_sizes``: how many images it answers together at best, rising from 1.
    """

    def __init__(
        self,
        source: Source,
        functions: Functions,
        trial_inputs: Inputs,
        warm_up: Mapping[str, Inputs] = MappingProxyType({}),
        batch_sizes: Sequence[int] = (1,),
    ) -> None:
        super().__init__()
        self.owned = list(source.graph.owned)
        self.functions = functions
        self.trial = trial_inputs
        self.warm_up = dict(warm_up)
        self.batch_sizes = tuple(batch_sizes)


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

    specs = {
        IMAGE: tf.TensorSpec([None, None, None, 3], image_type, IMAGE),
        META: tf.TensorSpec([None, META_HEAD + source.num_classes], tf.float32, META),
        ANCHORS: tf.TensorSpec([None, None, 4], tf.float32, ANCHORS),
    }

    @tf.function(input_signature=[specs], experimental_attributes=NOT_INLINED)
    def run(inputs: Tensors) -> Tensors:
        outputs = source.graph.call({**inputs, IMAGE: tf.cast(inputs[IMAGE], tf.float32)})
        return {DETECTIONS: outputs[DETECTIONS], MASKS: encode(outputs[MASKS])}

    @tf.function(input_signature=list(specs.values()))
    def serve(input_image: tf.Tensor, input_image_meta: tf.Tensor, input_anchors: tf.Tensor) -> Tensors:
        return batch.run_frames(source, run, {IMAGE: input_image, META: input_image_meta, ANCHORS: input_anchors})

    return Exported(source, {SERVING: serve}, trial.matterport_inputs(source, image_type.as_numpy_dtype))


def int8(source: Source, *, jpeg: bool = True, image_size: bool = True, max_batch_size: int = 1) -> Exported:
    """Serve by the repaired boundary: the image as lossless int8 up, each detection's own mask as int8 down.

    input_image int8 [n, h, w, 3], pixel = code + 128; mrcnn_detection float32 [n, N, 6]; mrcnn_mask int8
    [n, N, mh, mw], p = code / 127. ``segment_contract`` says all this as JSON.

    With ``jpeg``, a second signature makes the int8 tensor itself: image_jpeg string [n], orientation int32 [n]. With
    ``image_size``, the contract's signature also takes image_size int32 [n, 2]: what is outside of it is cut off.
    ``max_batch_size`` is for a source that takes several images.

    TensorFlow rewrites the arithmetic of a graph by what stands around it. So all signatures call one function that is
    not inlined: their answers are equal.

    The function calls signatures that are named after the contract, with the same graphs as ``serving_default`` and
    ``segment_jpeg``. A replica with another contract then refuses the request by name, even if version, types and
    shapes are the same.
    """
    stated = int8_contract(source, jpeg=jpeg, image_size=image_size)
    fingerprint = _fingerprint(stated)
    stated = msgspec.structs.replace(stated, signature=f"{SERVING}_{fingerprint}")
    if isinstance(stated.jpeg, JpegInput):
        named = msgspec.structs.replace(stated.jpeg, signature=f"{JPEG}_{fingerprint}")
        stated = msgspec.structs.replace(stated, jpeg=named)
    contract_json = stated.to_json()

    @tf.function(
        input_signature=[tf.TensorSpec([1, None, None, 3], tf.int8, IMAGE)], experimental_attributes=NOT_INLINED
    )
    def alone(input_image: tf.Tensor) -> Tensors:
        return coded(*answer(source, rgb_of(input_image)))

    segment = batch.segmenter(source, alone)
    images = tf.TensorSpec([None, None, None, 3], tf.int8, IMAGE)

    @tf.function(input_signature=[images, tf.TensorSpec([None, 2], tf.int32, IMAGE_SIZE)])
    def serve_sized(input_image: tf.Tensor, image_size: tf.Tensor) -> Tensors:
        def image_at(place: Any) -> tf.Tensor:
            height, width = tf.unstack(image_size[place])
            return input_image[place : place + 1, :height, :width]

        return segment(tf.shape(image_size)[0], image_at, lambda: image_size)

    @tf.function(input_signature=[images])
    def serve(input_image: tf.Tensor) -> Tensors:
        shape = tf.shape(input_image)
        outputs: Tensors = serve_sized(input_image, tf.tile(shape[None, 1:3], [shape[0], 1]))
        return outputs

    @tf.function(
        input_signature=[tf.TensorSpec([], tf.string), tf.TensorSpec([], tf.int32)], experimental_attributes=NOT_INLINED
    )
    def codes(jpeg: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
        return photograph.codes(jpeg, orientation, source.resize)

    @tf.function(
        input_signature=[tf.TensorSpec([None], tf.string, "image_jpeg"), tf.TensorSpec([None], tf.int32, "orientation")]
    )
    def serve_jpeg(image_jpeg: tf.Tensor, orientation: tf.Tensor) -> Tensors:
        return segment(
            tf.shape(image_jpeg)[0],
            lambda place: codes(image_jpeg[place], orientation[place])[None],
            lambda: photograph.sizes(image_jpeg, orientation, source.resize),
        )

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int8, CONTRACT_QUERY)])
    def contract(query: tf.Tensor) -> dict[str, tf.Tensor]:
        return {CONTRACT_OUTPUT: tf.fill(tf.shape(query), contract_json)}

    functions: Functions = {SERVING: serve, stated.signature: serve_sized if image_size else serve}
    warm_up: dict[str, Inputs] = {stated.signature: trial.int8_inputs(source, image_size=image_size)}
    if isinstance(stated.jpeg, JpegInput):
        functions |= {JPEG: serve_jpeg, stated.jpeg.signature: serve_jpeg}
        warm_up[stated.jpeg.signature] = trial.jpeg_inputs(source)
    functions[CONTRACT_SIGNATURE] = contract
    return Exported(source, functions, trial.int8_inputs(source), warm_up, batch_sizes(source, max_batch_size))


def batch_sizes(source: Source, most: int) -> tuple[int, ...]:
    """Return the sizes of batches up to ``most``, each twice the one before; 1 alone if the source takes one image."""
    most = most if source.takes_batch else 1
    return (*(1 << power for power in range((most - 1).bit_length())), most)


def _fingerprint(stated: ModelContract) -> str:
    return hashlib.sha256(stated.to_json().encode()).hexdigest()[:12]


def int8_contract(source: Source, *, jpeg: bool = True, image_size: bool = True) -> ModelContract:
    """Return the contract of a source's int8 export, with signature for JPEGs and input for sizes, or without."""
    size_name = IMAGE_SIZE if image_size else msgspec.UNSET
    return ModelContract(
        schema=3 if image_size else 2 if jpeg else 1,
        image=ImageInput(
            dtype="int8", scale=1.0, zero_point=IMAGE_ZERO_POINT, mean=None, padded=False, size_name=size_name
        ),
        detections=DetectionOutput(boxes="frame" if source.dialect == "matterport" else "image"),
        masks=MaskOutput(dtype="int8", scale=1 / MASK_LEVELS, zero_point=0, per_class=False),
        resize=source.resize,
        labels=dict(source.labels),
        source=f"{source.graph.description} ({source.dialect})",
        signature=SERVING,
        jpeg=JpegInput(signature=JPEG) if jpeg else msgspec.UNSET,
    )
