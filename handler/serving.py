"""The client of one model on TensorFlow Serving: its contract, its versions, Predict.

A contract belongs to a version, and every answer names its version. While versions change, replicas may serve different
ones. Where another version answers than the one whose contract is in force, its contract decides: the same one, and the
answer is good; another, and the request is done anew, for that version by number.
"""

import dataclasses
import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from google.protobuf.message import DecodeError

from handler import protos, wire
from handler.channel import Channel
from handler.contract import CONTRACT_OUTPUT, CONTRACT_QUERY, CONTRACT_SIGNATURE, ModelContract
from handler.errors import ContractViolation, ModelUnavailable, VersionChanged
from handler.wire import ModelSpec

R = TypeVar("R")
Array = npt.NDArray[Any]
Predict = Callable[[Mapping[str, Array], tuple[wire.Expected, ...]], wire.Answer]
logger = logging.getLogger("segment.serving")

PREDICT = "/tensorflow.serving.PredictionService/Predict"
METADATA = "/tensorflow.serving.PredictionService/GetModelMetadata"
STATUS = "/tensorflow.serving.ModelService/GetModelStatus"
NO_SIGNATURE = "Serving signature key"
VERSION_ATTEMPTS = 3
VERSIONS_KEPT = 4


@dataclass(frozen=True, slots=True)
class Served:
    """The contract in force and the model version that stated it."""

    contract: ModelContract
    version: int


class ModelClient:
    """Talks to one model. Safe for threads, and for a fork before its first call.

    ``deadline_s``: of all calls for one request, retries included. ``derive``: the contract from a
    GetModelMetadataResponse, for models that carry none.
    """

    def __init__(
        self, channel: Channel, model: ModelSpec, deadline_s: float, derive: Callable[[bytes], ModelContract]
    ) -> None:
        self.model = model
        self._channel = channel
        self._deadline_s = deadline_s
        self._derive = derive
        self._lock = threading.Lock()
        self._served: Served | None = None
        self._contracts: dict[int, ModelContract] = {}  # by version

    def run(self, work: Callable[[ModelContract, Predict], R]) -> R:
        """Return ``work(contract, predict)``, done anew where another contract turns out to be served."""
        end_s = self._end_s()
        served, by_number = self._served or self._read(self.model, end_s), False
        for _ in range(VERSION_ATTEMPTS):
            try:
                return work(served.contract, self._predictor(served, by_number, end_s))
            except VersionChanged as change:
                served, by_number = self._known(change.version, end_s), True
            except ContractViolation:
                latest = self._read(self.model, end_s)
                if latest == served:
                    raise
                served = latest
        raise ModelUnavailable("the model must stay at one version for a request, got one after another; try again")

    def served(self) -> Served:
        """Return the contract in force, read on first use."""
        return self._served or self._read(self.model, self._end_s())

    def ready(self) -> int:
        """Return the version that would answer; raises ModelUnavailable where there is none.

        GetModelStatus ignores a label, so that one is looked up by the metadata that it leads to.
        """
        end_s = self._end_s()
        if self.model.label:
            return _version(self._metadata(self.model, end_s))
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

    def _predictor(self, served: Served, by_number: bool, end_s: float) -> Predict:
        model = dataclasses.replace(self.model, version=served.version) if by_number else self.model

        def predict(inputs: Mapping[str, Array], expected: tuple[wire.Expected, ...]) -> wire.Answer:
            names = tuple(want.name for want in expected)
            request = wire.encode_request(model, served.contract.signature, inputs, names)
            response = self._channel.call(PREDICT, request, end_s, model.version is not None)
            try:
                answer = wire.decode_response(response, expected, served.version)
            except VersionChanged as change:
                if self._known(change.version, end_s).contract != served.contract:
                    raise
                answer = wire.decode_response(response, expected, change.version)
            return dataclasses.replace(answer, up_bytes=len(request))

        return predict

    def _known(self, version: int, end_s: float) -> Served:
        """Return the contract of ``version``, read unless it was before, and put it in force."""
        contract = self._contracts.get(version)
        if contract is None:
            return self._read(dataclasses.replace(self.model, version=version), end_s)
        self._served = Served(contract, version)
        return self._served

    def _read(self, model: ModelSpec, end_s: float) -> Served:
        """Read the contract of ``model`` and put it in force."""
        fresh = self._stated(model, end_s) or self._derived(model, end_s)
        logger.info("model %s version %d: contract from %s", model.name, fresh.version, fresh.contract.source)
        with self._lock:
            self._contracts[fresh.version] = fresh.contract
            for old in sorted(self._contracts)[:-VERSIONS_KEPT]:
                del self._contracts[old]
        self._served = fresh
        return fresh

    def _stated(self, model: ModelSpec, end_s: float) -> Served | None:
        """Return the contract that the model itself states, None where it has no such signature."""
        query = {CONTRACT_QUERY: np.zeros(1, np.int8)}
        request = wire.encode_request(model, CONTRACT_SIGNATURE, query, (CONTRACT_OUTPUT,))
        try:
            response = self._channel.call(PREDICT, request, end_s, model.version is not None)
        except ContractViolation as error:
            if NO_SIGNATURE in error.reason:
                return None
            raise
        text, answered = wire.decode_string(response, CONTRACT_OUTPUT)
        return Served(ModelContract.from_json(text), answered)

    def _derived(self, model: ModelSpec, end_s: float) -> Served:
        response = self._metadata(model, end_s)
        return Served(self._derive(response), _version(response))

    def _metadata(self, model: ModelSpec, end_s: float) -> bytes:
        request = protos.GetModelMetadataRequest(metadata_field=["signature_def"])
        model.fill(request.model_spec)
        return self._channel.call(METADATA, request.SerializeToString(), end_s, model.version is not None)


def _version(metadata: bytes) -> int:
    return int(_parse(protos.GetModelMetadataResponse, metadata).model_spec.version.value)


def _parse(kind: Any, response: bytes) -> Any:
    try:
        return kind.FromString(response)
    except DecodeError as error:
        got = f"{len(response)} other bytes"
        raise ContractViolation(f"the answer must be a {kind.DESCRIPTOR.name}, got {got}") from error
