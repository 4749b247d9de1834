"""Bytes and time of the Predict call for one image, by kind of export, measured on real calls."""

import io
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import grpc

from deploy.models.shapes import bundled
from deploy.tools.processes import RunError
from deploy.tools.tables import table
from handler import pipeline
from handler.backend import wire
from handler.backend.channel import CHANNEL_OPTIONS, Channel
from handler.backend.client import PREDICT, ModelClient
from handler.image import jpeg
from handler.image.decode import Limits, decode_image
from handler.model.contract import ModelContract
from handler.options import Options
from handler.pipeline import Transport
from handler.types import Inputs, Prediction

DEADLINE_S = 60.0
REPEATS = 5
JPEG_QUALITY = 90


@dataclass(frozen=True)
class Traffic:
    """Bytes of one image's PredictRequest and PredictResponse, median seconds of the call, objects found."""

    kind: str
    up_bytes: int
    down_bytes: int
    seconds: float
    objects: int


def measure(address: str, model: str, kind: str, image: bytes, transport: Transport = "int8") -> Traffic:
    """Send the image once to warm up, then REPEATS times, and measure. Raises SegmentError or RunError."""
    client = ModelClient(Channel(address, model), wire.ModelSpec(model), DEADLINE_S, bundled.SETTINGS)
    try:
        contract = client.served().contract
    finally:
        client.close()
    with grpc.insecure_channel(address, options=CHANNEL_OPTIONS) as channel:
        counting = _CountingTransport(channel, model, contract)
        try:
            for _ in range(1 + REPEATS):
                result = pipeline.segment(image, Options(), contract, counting.predict, Limits(), transport=transport)
        except grpc.RpcError as error:
            raise RunError(f"export {kind} must answer OK, got {error.code().name}: {error.details()}") from error
    seconds = statistics.median(counting.seconds[1:])
    return Traffic(kind, counting.up_bytes, counting.down_bytes, seconds, len(result.instances))


def as_jpeg(image: bytes) -> bytes:
    """Return an encoded image as a JPEG: itself if it is one, else of quality JPEG_QUALITY."""
    if image.startswith(jpeg.START):
        return image
    encoded = io.BytesIO()
    decode_image(image, Limits()).upright().save(encoded, "JPEG", quality=JPEG_QUALITY)
    return encoded.getvalue()


class _CountingTransport:
    """Calls the model and keeps the sizes of the last messages and the seconds of every call."""

    def __init__(self, channel: Any, model: str, contract: ModelContract) -> None:
        self._call = channel.unary_unary(PREDICT)
        self._model = wire.ModelSpec(model)
        self._contract = contract
        self.up_bytes = self.down_bytes = 0
        self.seconds: list[float] = []

    def predict(self, inputs: Inputs) -> Prediction:
        """Call the model as the function does, from arrays to arrays."""
        started = time.perf_counter()
        expected = self._contract.outputs
        names = tuple(output.name for output in expected)
        request = wire.encode_request(self._model, self._contract.signature_of(inputs), inputs, names)
        response = self._call(request, timeout=DEADLINE_S)
        answer = wire.decode_response(response, expected)
        self.seconds.append(time.perf_counter() - started)
        self.up_bytes, self.down_bytes = len(request), len(response)
        return answer


def describe(measured: Sequence[Traffic]) -> str:
    """Return the table, each number of bytes with its ratio to the first row's."""
    first = measured[0]
    rows = [
        [
            one.kind,
            f"{one.up_bytes:,}",
            _ratio(one.up_bytes, first.up_bytes),
            f"{one.down_bytes:,}",
            _ratio(one.down_bytes, first.down_bytes),
            f"{1000 * one.seconds:.0f} ms",
            str(one.objects),
        ]
        for one in measured
    ]
    return table(["export", "bytes up", "", "bytes down", "", "time", "objects"], rows)


def _ratio(count: int, reference: int) -> str:
    if count == reference:
        return "1"
    return f"1/{reference / count:.1f}" if count < reference else f"{count / reference:.1f}"
