"""The client of one model on TensorFlow Serving: its contract, its versions, Predict.

Strategy. During a rollout, replicas behind one address serve different versions, and round robin sends each call to
another replica. Four rules keep an answer and its contract together:

1. A contract comes from one replica. Either the model states it, or it is derived from one GetModelMetadata answer,
   and only if that answer lists no ``segment_contract``.
2. Every answer names its version. If another version answers than expected, compare the contracts. Equal: use the
   answer. Different: repeat the request, pinned to that version by number.
3. A refusal names no version. Read what is served now, and repeat the request, pinned to that version.
4. If the pinned version refuses, too, or answers with other tensors, its number may be in use for two builds. Look for
   the other contract of that number and repeat the request with it. If there is none twice, the model is broken.

A pinned call that meets a replica without that version is repeated by the channel. The deadline bounds everything.
"""

import dataclasses
import itertools
import logging
import random
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from google.protobuf.message import DecodeError

from handler.backend import protos, wire
from handler.backend.channel import Channel
from handler.backend.metadata import derive_contract, read_signatures
from handler.backend.wire import ModelSpec
from handler.errors import (
    BackendError,
    ContractViolation,
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
from handler.types import Array, Predict, Prediction

R = TypeVar("R")
logger = logging.getLogger("segment.serving")

PREDICT = "/tensorflow.serving.PredictionService/Predict"
METADATA = "/tensorflow.serving.PredictionService/GetModelMetadata"
STATUS = "/tensorflow.serving.ModelService/GetModelStatus"
NO_SIGNATURE = "Serving signature key"
LOOKS = 16  # for another contract of one version; two builds, half and half, are missed once in 65,536 times
PAUSE_S = 0.02  # at most, and random: clients in step would each meet the same replica again and again
VERSIONS_KEPT = 4


@dataclass(frozen=True, slots=True)
class Served:
    """The contract in force and the model version that stated it."""

    contract: ModelContract
    version: int


class ModelClient:
    """Talks to one model. Safe for threads, and for a fork before its first call.

    ``deadline_s``: of all calls for one request, retries included. ``settings``: for models that state no contract.
    """

    def __init__(self, channel: Channel, model: ModelSpec, deadline_s: float, settings: MatterportSettings) -> None:
        self.model = model
        self._channel = channel
        self._deadline_s = deadline_s
        self._settings = settings
        self._lock = threading.Lock()
        self._served: Served | None = None
        self._contracts: dict[int, ModelContract] = {}  # by version

    def run(self, work: Callable[[ModelContract, Predict], R]) -> R:
        """Return ``work(contract, predict)``, repeated with another contract if the first is not the model's."""
        end_s = self._end_s()
        served, agreed = self._served or self._read(self.model, end_s), False
        for attempt in itertools.count():
            model = self._at(served.version) if attempt else self.model
            try:
                return work(served.contract, self._predictor(served, model, end_s))
            except (VersionChanged, NotServed, ContractViolation) as error:
                if time.monotonic() >= end_s:
                    raise
                other = self._instead(error, served, attempt, end_s)
                if other is None and (agreed or not isinstance(error, RequestRefused)):
                    self._forget(served)
                    raise
                served, agreed = other or served, other is None  # once more: the replica that refused may be gone
            _pause()
        raise AssertionError("the last attempt returns or raises")

    def served(self) -> Served:
        """Return the contract in force, read on first use."""
        return self._served or self._read(self.model, self._end_s())

    def ready(self) -> int:
        """Return the version that would answer; raises ModelUnavailable where there is none.

        GetModelStatus ignores a label, so that one is looked up by the metadata that it leads to.
        """
        end_s = self._end_s()
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

    def close(self) -> None:
        """Close the channel; the next call opens another."""
        self._channel.close()
        with self._lock:
            self._served = None
            self._contracts.clear()

    def _end_s(self) -> float:
        return time.monotonic() + self._deadline_s

    def _at(self, version: int) -> ModelSpec:
        return dataclasses.replace(self.model, version=version)

    def _predictor(self, served: Served, model: ModelSpec, end_s: float) -> Predict:
        expected = served.contract.outputs
        names = tuple(output.name for output in expected)

        def predict(inputs: Mapping[str, Array]) -> Prediction:
            request = wire.encode_request(model, served.contract.signature, inputs, names)
            response = self._channel.call(PREDICT, request, end_s)
            try:
                answer = wire.decode_response(response, expected, served.version)
            except VersionChanged as change:
                if self._known(change.version, end_s).contract != served.contract:
                    raise
                answer = wire.decode_response(response, expected, change.version)
            return dataclasses.replace(answer, up_bytes=len(request))

        return predict

    def _instead(self, error: BackendError, failed: Served, attempt: int, end_s: float) -> Served | None:
        """Return the contract and version for the next attempt after ``failed``, None if there is no other."""
        if isinstance(error, VersionChanged):
            return self._known(error.version, end_s)
        if isinstance(error, NotServed) or (isinstance(error, RequestRefused) and attempt == 0):
            return self._read(self.model, end_s)
        try:
            return self._another(failed, end_s)
        except NotServed:  # since the attempt
            return self._read(self.model, end_s)

    def _another(self, failed: Served, end_s: float) -> Served | None:
        """Look for a replica with another build of the same version; None if all have the contract that failed.

        If there is one, either contract may be the next replica's. Toss a coin: replicas take turns, and a client that
        took turns with them would always send each the other's request.
        """
        for _ in range(LOOKS):
            with suppress(ContractViolation):  # a replica that cannot be read; ``failed`` says what went wrong here
                found = self._described(self._at(failed.version), end_s)
                if found.contract != failed.contract:
                    return random.choice((self._keep(found), failed))  # noqa: S311
            _pause()
        return None

    def _known(self, version: int, end_s: float) -> Served:
        """Return the contract of ``version``, read unless it was before, and put it in force."""
        contract = self._contracts.get(version)
        if contract is None:
            return self._read(self._at(version), end_s)
        self._served = Served(contract, version)
        return self._served

    def _read(self, model: ModelSpec, end_s: float) -> Served:
        """Read the contract of ``model`` and put it in force."""
        return self._keep(self._stated(model, end_s) or self._described(model, end_s))

    def _keep(self, fresh: Served) -> Served:
        """Put a contract in force, as the one of its version."""
        with self._lock:
            if self._contracts.get(fresh.version) != fresh.contract:
                source = fresh.contract.source
                logger.info("model %s version %d: contract from %s", self.model.name, fresh.version, source)
            self._contracts[fresh.version] = fresh.contract
            for old in sorted(self._contracts)[:-VERSIONS_KEPT]:
                del self._contracts[old]
        self._served = fresh
        return fresh

    def _forget(self, failed: Served) -> None:
        """Take a contract out of force: the model broke it, so the next request reads it again."""
        with self._lock:
            self._contracts.pop(failed.version, None)
        self._served = None

    def _stated(self, model: ModelSpec, end_s: float) -> Served | None:
        """Return the contract that the model itself states, None if it has no such signature."""
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

    def _described(self, model: ModelSpec, end_s: float) -> Served:
        """Return the contract of the version whose metadata answers: as it states it, or derived from the metadata."""
        metadata = self._metadata(model, end_s)
        version, signatures = int(metadata.model_spec.version.value), read_signatures(metadata)
        if CONTRACT_SIGNATURE not in signatures:
            return Served(derive_contract(signatures, self._settings), version)
        for _ in range(LOOKS):
            if stated := self._stated(self._at(version), end_s):
                return stated
            _pause()  # another replica has another build of this version
        raise ContractViolation(f"version {version} must state the contract that its metadata lists, got none")

    def _metadata(self, model: ModelSpec, end_s: float) -> Any:
        request = protos.GetModelMetadataRequest(metadata_field=["signature_def"])
        model.fill(request.model_spec)
        return _parse(protos.GetModelMetadataResponse, self._channel.call(METADATA, request.SerializeToString(), end_s))


def _pause() -> None:
    time.sleep(random.uniform(0, PAUSE_S))  # noqa: S311 - spreads calls, no secret


def _parse(kind: Any, response: bytes) -> Any:
    try:
        return kind.FromString(response)
    except DecodeError as error:
        got = f"{len(response)} other bytes"
        raise ContractViolation(f"the answer must be a {kind.DESCRIPTOR.name}, got {got}") from error
