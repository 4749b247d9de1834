"""The client of one model on TensorFlow Serving: its contract, its versions, Predict.

*Strategy*. During a rollout, the replicas behind one address serve different versions, and round robin sends each call
to another replica. Four rules keep a response and its contract together:

1. A contract comes from one replica. Either the model states it, or it is derived from one GetModelMetadata response.
   It is derived only if that response lists no ``segment_contract``.
2. Every response names its version. If it is not the expected one, compare the two contracts. Equal: use the response.
   Different: repeat the request, pinned to that version by number.
3. A refusal names no version. Read the contract that is served now, and repeat the request, pinned to its version.
4. If the pinned version refuses too, or responds with other tensors, two builds may share its number. Look for the
   other contract of that number, and repeat the request with it. If there is none twice, the model is broken.

If a pinned call meets a replica without that version, the channel repeats it. The deadline covers all calls together.
"""

import itertools
import logging
import random
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt
from google.protobuf.message import DecodeError

from handler.backend import protos, wire
from handler.backend.channel import Channel
from handler.backend.metadata import derive_contract, read_signatures
from handler.backend.turns import Turns
from handler.backend.wire import ModelSpec
from handler.errors import (
    BackendError,
    ContractViolation,
    ModelTimeout,
    ModelUnavailable,
    NotServed,
    RequestRefused,
    VersionChanged,
)
from handler.model.contract import (
    CONTRACT_OUTPUT,
    CONTRACT_QUERY,
    CONTRACT_SIGNATURE,
    MatterportSettings,
    ModelContract,
)
from handler.types import Inputs, Placed, Prediction, Size

R = TypeVar("R")
logger = logging.getLogger("segment.serving")

PREDICT = "/tensorflow.serving.PredictionService/Predict"
METADATA = "/tensorflow.serving.PredictionService/GetModelMetadata"
STATUS = "/tensorflow.serving.ModelService/GetModelStatus"
NO_SIGNATURE = "Serving signature key"
MAX_READS = 16  # to find another contract of a version; with two builds, half each, it fails once in 65,536 times
MAX_PAUSE_S = 0.02  # pauses are random, or clients in step would meet the same replica each time
VERSIONS_KEPT = 4
READY_S = 4.0  # a probe waits 5 s


class Served(msgspec.Struct, frozen=True):
    """The contract in use, and the model version that it belongs to."""

    contract: ModelContract
    version: int


class ModelClient:
    """Calls one model. Thread-safe; may be forked before its first call.

    ``deadline_s``: for all calls of one request, with retries. ``settings``: for models that state no contract.
    ``concurrency``: Predict calls of images at once, 0 or None for no limit; the others wait in line.
    """

    def __init__(
        self,
        channel: Channel,
        model: ModelSpec,
        deadline_s: float,
        settings: MatterportSettings,
        concurrency: int | None = None,
    ) -> None:
        self.model = model
        self._channel = channel
        self._deadline_s = deadline_s
        self._settings = settings
        self._turns = Turns(concurrency)
        self._lock = threading.Lock()
        self._served: Served | None = None
        self._contracts: dict[int, ModelContract] = {}  # by version

    def run(self, work: "Callable[[ModelContract, Predictor], R]") -> R:
        """Return ``work(contract, predict)``; repeat it with another contract if the first does not fit the model."""
        end_s = self._end_s()
        served, confirmed = self._served or self._read_contract(self.model, end_s), False
        for attempt in itertools.count():
            model = self._pinned(served.version) if attempt else self.model
            try:
                return work(served.contract, Predictor(self, served, model, end_s))
            except (VersionChanged, NotServed, ContractViolation) as error:
                if time.monotonic() >= end_s:
                    raise
                other = self._next_attempt(error, served, attempt, end_s)
                if other is None and (confirmed or not isinstance(error, RequestRefused)):
                    self._discard(served)
                    raise
                served, confirmed = other or served, other is None  # try once more: that replica may be gone
            _pause()
        raise AssertionError("the last attempt returns or raises")

    def served(self) -> Served:
        """Return the contract in use; read it on first use."""
        return self._served or self._read_contract(self.model, self._end_s())

    def ready(self) -> int:
        """Return the version that would answer, within four seconds. Raises ModelUnavailable if there is none."""
        half_s = min(self._deadline_s, READY_S) / 2
        try:
            return self._available_version(time.monotonic() + half_s)
        except ModelTimeout:  # the connection may be dead; the channel has opened another one
            return self._available_version(time.monotonic() + half_s)

    def close(self) -> None:
        """Close the channel and discard all contracts. The next call opens a new channel."""
        self._channel.close()
        with self._lock:
            self._served = None
            self._contracts.clear()

    def _available_version(self, end_s: float) -> int:
        """Return the version that would answer. GetModelStatus ignores labels, so metadata tell that of a label."""
        if self.model.label:
            return int(self._metadata(self.model, end_s).model_spec.version.value)
        request = protos.GetModelStatusRequest()
        self.model.fill(request.model_spec)
        response = self._channel.call(STATUS, request.SerializeToString(), end_s)
        answer = _parse(protos.GetModelStatusResponse, response)
        states = {status.version: status.state for status in answer.model_version_status}
        available = [version for version, state in states.items() if state == protos.ModelVersionStatus.AVAILABLE]
        if not available:
            names = [protos.state_name(state) for state in states.values()]
            raise ModelUnavailable(f"a version of the model must be AVAILABLE, got {', '.join(names) or 'no version'}")
        return int(max(available))

    def _end_s(self) -> float:
        return time.monotonic() + self._deadline_s

    def _pinned(self, version: int) -> ModelSpec:
        return msgspec.structs.replace(self.model, version=version)

    def predict(self, request: bytes, served: Served, end_s: float) -> Prediction:
        """Return the outputs of ``served`` for a PredictRequest. Raises VersionChanged if its contract differs."""
        expected = served.contract.outputs
        response, repeats = self._channel.call_in_turn(PREDICT, request, end_s, self._turns)
        try:
            answer = wire.decode_response(response, expected, served.version)
        except VersionChanged as change:
            if self._use_version(change.version, end_s).contract != served.contract:
                raise
            answer = wire.decode_response(response, expected, change.version)
        return msgspec.structs.replace(answer, up_bytes=len(request), repeats=repeats)

    def _next_attempt(self, error: BackendError, failed: Served, attempt: int, end_s: float) -> Served | None:
        """Return the contract and version for the next attempt, None if there is no other than ``failed``."""
        try:
            if isinstance(error, VersionChanged):
                return self._use_version(error.version, end_s)
            if not (isinstance(error, NotServed) or (isinstance(error, RequestRefused) and attempt == 0)):
                return self._find_other_contract(failed, end_s)
        except NotServed:
            pass  # that version was unloaded after the attempt
        return self._read_contract(self.model, end_s)

    def _find_other_contract(self, failed: Served, end_s: float) -> Served | None:
        """Look for a replica with another build of the same version; None if all have the contract ``failed``.

        If there is one, the next call can meet either build, so choose a contract at random. Replicas take turns: a
        client that took turns too could send each replica the other's request every time.
        """
        for _ in range(MAX_READS):
            with suppress(ContractViolation):  # that replica cannot be read; try another
                found = self._read_replica_contract(self._pinned(failed.version), end_s)
                if found.contract != failed.contract:
                    return random.choice((self._use(found), failed))  # noqa: S311
            _pause()
        return None

    def _use_version(self, version: int, end_s: float) -> Served:
        """Use the contract of ``version`` from now on; read it if it is not known."""
        contract = self._contracts.get(version)
        if contract is None:
            return self._read_contract(self._pinned(version), end_s)
        self._served = Served(contract, version)
        return self._served

    def _read_contract(self, model: ModelSpec, end_s: float) -> Served:
        """Read the contract of ``model`` and use it from now on."""
        return self._use(self._read_stated_contract(model, end_s) or self._read_replica_contract(model, end_s))

    def _use(self, fresh: Served) -> Served:
        """Use a contract from now on, and keep it for its version."""
        with self._lock:
            if self._contracts.get(fresh.version) != fresh.contract:
                source = fresh.contract.source
                logger.info("model %s version %d: contract from %s", self.model.name, fresh.version, source)
            self._contracts[fresh.version] = fresh.contract
            for old in sorted(self._contracts)[:-VERSIONS_KEPT]:
                del self._contracts[old]
        self._served = fresh
        return fresh

    def _discard(self, failed: Served) -> None:
        """Discard a contract that the model broke. The next request reads it again."""
        with self._lock:
            self._contracts.pop(failed.version, None)
        self._served = None

    def _read_stated_contract(self, model: ModelSpec, end_s: float) -> Served | None:
        """Return the contract that the model states, None if it has no such signature."""
        query = {CONTRACT_QUERY: np.zeros(1, np.int8)}
        request = wire.encode_request(model, CONTRACT_SIGNATURE, query, (CONTRACT_OUTPUT,))
        try:
            response = self._channel.call(PREDICT, request, end_s)
        except RequestRefused as error:
            if NO_SIGNATURE in error.reason:
                return None
            raise
        text, answered = wire.decode_string(response, CONTRACT_OUTPUT)
        return Served(ModelContract.from_json(text), answered)

    def _read_replica_contract(self, model: ModelSpec, end_s: float) -> Served:
        """Return the contract of the replica that answers GetModelMetadata: stated, or else derived."""
        while True:
            metadata = self._metadata(model, end_s)
            version, signatures = int(metadata.model_spec.version.value), read_signatures(metadata)
            if CONTRACT_SIGNATURE not in signatures:
                return Served(derive_contract(signatures, self._settings), version)
            try:
                for _ in range(MAX_READS):
                    if stated := self._read_stated_contract(self._pinned(version), end_s):
                        return stated
                    _pause()  # that replica has another build of this version
            except NotServed:
                if model.version is not None:
                    raise
            # The replica that answered was replaced since: ask again.
            if time.monotonic() >= end_s:
                raise ContractViolation(f"version {version} must state the contract that its metadata lists, got none")

    def _metadata(self, model: ModelSpec, end_s: float) -> Any:
        request = protos.GetModelMetadataRequest(metadata_field=["signature_def"])
        model.fill(request.model_spec)
        return _parse(protos.GetModelMetadataResponse, self._channel.call(METADATA, request.SerializeToString(), end_s))


class Predictor:
    """Calls the model with one contract: see :data:`handler.types.Predict`. ``end_s``: the deadline, monotonic."""

    def __init__(self, client: ModelClient, served: Served, model: ModelSpec, end_s: float) -> None:
        self._client = client
        self._served = served
        self._model = model
        self._end_s = end_s
        self._outputs = tuple(output.name for output in served.contract.outputs)

    def __call__(self, inputs: Inputs) -> Prediction:
        """Return the model's outputs."""
        return self.send(self._encode(inputs))

    def send(self, request: bytes) -> Prediction:
        """Return the model's outputs for the bytes of a PredictRequest."""
        return self._client.predict(request, self._served, self._end_s)

    def place(self, size_hw: Size, others: Inputs) -> Placed:
        """Return a call for an image of this size, which is written into the request, and the other inputs."""
        return PlacedCall(wire.PlacedImage(self._encode(others), self._served.contract.image.name, size_hw), self)

    def _encode(self, inputs: Inputs) -> bytes:
        signature = self._served.contract.signature_of(inputs)
        return wire.encode_request(self._model, signature, inputs, self._outputs)


class PlacedCall:
    """A call whose image is written into the request: see :class:`handler.types.Placed`."""

    def __init__(self, image: wire.PlacedImage, predictor: Predictor) -> None:
        self._image = image
        self._predictor = predictor

    @property
    def codes(self) -> npt.NDArray[np.int8]:
        """The memory of the image, int8 [1, h, w, 3], to be filled."""
        return self._image.codes

    def predict(self) -> Prediction:
        """Return the model's outputs. Raises BufferError if an array still refers to ``codes``."""
        return self._predictor.send(self._image.to_bytes())


def _pause() -> None:
    time.sleep(random.uniform(0, MAX_PAUSE_S))  # noqa: S311 - spreads calls, no secret


def _parse(message_type: Any, response: bytes) -> Any:
    try:
        return message_type.FromString(response)
    except DecodeError as error:
        got = f"{len(response)} other bytes"
        raise ContractViolation(f"the answer must be a {message_type.DESCRIPTOR.name}, got {got}") from error
