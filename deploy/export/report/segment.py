"""One image through one model, as the function segments it: the source in TensorFlow, or an export on the stand-in."""

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from PIL import Image
from tensorflow_serving.apis import model_pb2

from deploy.export import answer, signatures
from deploy.export.graphs import ExportError, reason
from deploy.export.source import Source
from deploy.model_server.flags import Flags
from deploy.model_server.predict import encode_response
from deploy.model_server.server import ModelServer
from handler import pipeline
from handler.backend import wire
from handler.backend.channel import Channel
from handler.backend.client import ModelClient
from handler.errors import SegmentError
from handler.image.decode import Limits
from handler.model.contract import ImageInput, MaskOutput, MatterportSettings, MetaInput, ModelContract
from handler.model.detections import Detections, gather_masks, select
from handler.options import Options
from handler.types import Inputs, Predict, Prediction

DEADLINE_S = 600.0  # the first run of a large model on a processor is slow
RECIPES: dict[str, Callable[[Source], signatures.Exported]] = {
    "float32": signatures.float32,
    "int8-cast": signatures.int8_cast,
    "int8": signatures.int8,
}
Array = NDArray[Any]


@dataclass(frozen=True)
class Segmentation:
    """What a model finds in one image.

    ``rows`` float32 [n, 6], as the model gave them, of the n instances: y1, x1, y2, x2 normalised, class, score.
    ``masks`` float32 [d, h, w]: probabilities of all d detections, with those outside the image. Bytes are those of the
    messages that carry the model's tensors, or would carry them.
    """

    rows: NDArray[np.float32]
    masks: NDArray[np.float32]
    instances: tuple[pipeline.Instance, ...]
    up_bytes: int
    down_bytes: int

    def rles(self) -> list[dict[str, Any]]:
        """Return the instances' masks as pycocotools takes them."""
        return [msgspec.to_builtins(instance.mask) for instance in self.instances]

    def count_saturated(self) -> tuple[int, int]:
        """Count mask probabilities without a code in the recipe (p * 255 above 127), and all of them."""
        return int((self.masks * np.float32(255) > 127).sum()), self.masks.size


Segment = Callable[[bytes], Segmentation]  # takes an encoded image


def segment(
    data: bytes, contract: ModelContract, predict: Predict, transport: pipeline.Transport = "int8"
) -> Segmentation:
    """Segment the encoded image ``data`` as the function does, and keep the model's own rows and masks."""
    answers: list[Prediction] = []

    def record(inputs: Inputs) -> Prediction:
        answers.append(predict(inputs))
        return answers[-1]

    result = pipeline.segment(data, Options(), contract, record, Limits(), transport=transport)
    outputs = answers[-1].outputs
    detections = outputs[contract.detections.name][0]
    found = select(detections, Options(), None)
    masks = gather_masks(outputs[contract.masks.name][0], found, contract)
    rows = detections[found.index][_places(found, result.instances)]
    return Segmentation(rows, masks, result.instances, result.up_bytes, result.down_bytes)


def _places(found: Detections, instances: Sequence[pipeline.Instance]) -> list[int]:
    """Return each instance's place in ``found``, which has the same order and also rows outside the image."""
    places = enumerate(zip(found.classes.tolist(), found.scores.tolist(), strict=True))
    return [next(place for place, key in places if key == (one.class_id, one.score)) for one in instances]


@contextmanager
def on_model_server(
    base: Path,
    settings: MatterportSettings,
    *,
    tensor_content: bool = False,
    transport: pipeline.Transport = "int8",
) -> Iterator[Segment]:
    """Serve the export under ``base`` on a stand-in, in one of two encodings, and ask with the function's client."""
    flags = Flags(
        port=0,
        model_name="model",
        model_base_path=str(base.resolve()),
        enable_serialization_as_tensor_content=tensor_content,
        max_num_load_retries=0,
    )
    with ModelServer(flags) as server:
        client = ModelClient(Channel(server.target, "model"), wire.ModelSpec("model"), DEADLINE_S, settings)
        try:
            yield lambda data: client.run(partial(segment, data, transport=transport))
        finally:
            client.close()


def in_tensorflow(source: Source) -> Segment:
    """Run the source itself in this process, asked as the function would ask it."""
    if not source.is_plain:
        contract = _pixels_contract(source)
        return partial(segment, contract=contract, predict=_pixels_predict(source, contract))
    run = tf.function(source.graph.call, reduce_retracing=True)
    return partial(segment, contract=float32_contract(source), predict=partial(_predict, run))


def in_process(source: Source, exported: signatures.Exported) -> Segment:
    """Run an int8 export in this process, without saving it."""
    serve = exported.functions[signatures.SERVING]
    predict = partial(_predict, lambda inputs: serve(**inputs))
    return partial(segment, contract=signatures.int8_contract(source, image_size=False), predict=predict)


def _predict(run: Callable[[Mapping[str, tf.Tensor]], Mapping[str, tf.Tensor]], inputs: Inputs) -> Prediction:
    outputs = run({name: tf.constant(array) for name, array in inputs.items()})
    arrays = {name: tensor.numpy() for name, tensor in outputs.items()}
    return Prediction(arrays, 0, *_message_bytes(inputs, arrays))


def _message_bytes(inputs: Inputs, outputs: Mapping[str, Array]) -> tuple[int, int]:
    """Return the bytes of the messages that would carry these tensors, in TensorFlow Serving's default encoding."""
    request = wire.encode_request(wire.ModelSpec("model"), signatures.SERVING, inputs)
    response = encode_response(outputs, model_pb2.ModelSpec(name="model"), as_content=False)
    return len(request), len(response)


def ask(segment: Segment, data: bytes, kind: str, name: str) -> Segmentation:
    """Return what a model finds in the image ``name``. Raises ExportError if it does not answer, as ``kind``."""
    try:
        return segment(data)
    except (SegmentError, tf.errors.OpError, ValueError) as error:
        raise ExportError(f"the model must answer for {name}, as {kind}, got: {reason(error)}") from error


def float32_contract(source: Source) -> ModelContract:
    """Return what a plain Matterport source leaves to its client: padding, mean, meta and anchors."""
    settings = source.settings
    return ModelContract(
        image=ImageInput(dtype="float32", mean=settings.mean, padded=True),
        masks=MaskOutput(dtype="float32", per_class=True),
        resize=settings.resize,
        labels=dict(source.labels),
        meta=MetaInput(num_classes=source.num_classes),
        anchors=settings.anchors,
        source=source.graph.description,
    )


def _pixels_contract(source: Source) -> ModelContract:
    image, masks = ImageInput(dtype="uint8", padded=False), MaskOutput(dtype="float32", per_class=False)
    return msgspec.structs.replace(signatures.int8_contract(source), image=image, masks=masks)


def _pixels_predict(source: Source, contract: ModelContract) -> Predict:
    """Call a source with its pixels alone. Bytes are those of the messages that would carry its inputs and outputs."""

    @tf.function(reduce_retracing=True)
    def run(pixels: tf.Tensor) -> Any:
        sent = answer.inputs(source, tf.cast(pixels, tf.int32))
        outputs = source.graph.call(sent)
        return sent, outputs, answer.rows_and_masks(source, outputs, tf.shape(pixels)[1:3])

    def predict(inputs: Inputs) -> Prediction:
        (pixels,) = inputs.values()
        sent, outputs, (rows, masks) = run(tf.constant(pixels))
        up = {name: tensor.numpy() for name, tensor in sent.items()}
        raw = {name: tensor.numpy() for name, tensor in outputs.items()}
        found = {contract.detections.name: rows.numpy(), contract.masks.name: masks.numpy()}
        return Prediction(found, 0, *_message_bytes(up, raw))

    return predict


def encode_jpeg(image: NDArray[np.uint8], quality: int = 90) -> bytes:
    """Encode an image uint8 [h, w, 3]."""
    body = io.BytesIO()
    Image.fromarray(image).save(body, "JPEG", quality=quality)
    return body.getvalue()


def encode_png(image: NDArray[np.uint8]) -> bytes:
    """Encode an image uint8 [h, w, 3]."""
    body = io.BytesIO()
    Image.fromarray(image).save(body, "PNG", compress_level=1)
    return body.getvalue()
