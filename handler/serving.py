"""The gRPC client of TensorFlow Serving: one channel a process, deadlines, retries, and status codes into errors.

Two retries, for two reasons. UNAVAILABLE is retried by gRPC itself, though for requests over 256 KiB only once
the retry buffer is raised. RESOURCE_EXHAUSTED means a busy server only when its message says so (otherwise a
message over a size limit, which no retry mends), so that one is retried here.

A contract belongs to a version, and every answer names its version. While versions change, replicas may serve different
ones. Where another version answers than the one whose contract is in force, its contract decides: the same one, and the
answer is good; another, and the request is done anew, for that version by number.
"""

import json
import logging
import os
import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc
import numpy as np
import numpy.typing as npt
from google.protobuf.message import DecodeError

from handler import protos, wire
from handler.contract import CONTRACT_OUTPUT, CONTRACT_QUERY, CONTRACT_SIGNATURE, ModelContract
from handler.errors import BackendError, ContractViolation, ModelTimeout, ModelUnavailable, VersionChanged

R = TypeVar("R")
Array = npt.NDArray[Any]
Predict = Callable[[Mapping[str, Array], tuple[wire.Expected, ...]], wire.Answer]
logger = logging.getLogger("segment.serving")

PREDICT = "/tensorflow.serving.PredictionService/Predict"
METADATA = "/tensorflow.serving.PredictionService/GetModelMetadata"
STATUS = "/tensorflow.serving.ModelService/GetModelStatus"
BUSY = "Server Threadpool Exhausted"
NO_SIGNATURE = "Serving signature key"
ATTEMPTS = 5
RETRY_WAIT_S = 0.05  # doubles: 0.05, 0.1, 0.2, 0.4
VERSION_ATTEMPTS = 3
VERSIONS_KEPT = 4
RETRY_BUFFER_BYTES = 64 << 20
SERVICE_CONFIG = {
    "loadBalancingConfig": [{"round_robin": {}}],
    "methodConfig": [
        {
            "name": [{}],
            "retryPolicy": {
                "maxAttempts": 4,
                "initialBackoff": "0.1s",
                "maxBackoff": "1s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ],
}
CHANNEL_OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.per_rpc_retry_buffer_size", RETRY_BUFFER_BYTES),
    ("grpc.max_reconnect_backoff_ms", 2000),  # by default a server that comes back is not noticed for up to 2 minutes
    ("grpc.service_config", json.dumps(SERVICE_CONFIG)),
]


@dataclass(frozen=True, slots=True)
class Served:
    """The contract in force and the model version that stated it."""

    contract: ModelContract
    version: int


class ModelClient:
    """Talks to one model. Safe for threads, and for a fork before its first call.

    ``address``: anything gRPC resolves. ``deadline_s``: of all calls for one request, retries included. ``derive``: the
    contract from a GetModelMetadataResponse, for models that carry none.
    """

    def __init__(self, address: str, model: str, deadline_s: float, derive: Callable[[bytes], ModelContract]) -> None:
        self.model = model
        self._address = address
        self._deadline_s = deadline_s
        self._derive = derive
        self._lock = threading.Lock()
        self._channel: Any = None
        self._owner_pid: int | None = None
        self._served: Served | None = None
        self._contracts: dict[int, ModelContract] = {}  # by version

    def run(self, work: Callable[[ModelContract, Predict], R]) -> R:
        """Return ``work(contract, predict)``, done anew where another contract turns out to be served."""
        end_s = self._end_s()
        served, by_number = self._served or self._read(None, end_s), False
        for _ in range(VERSION_ATTEMPTS):
            try:
                return work(served.contract, self._predictor(served, by_number, end_s))
            except VersionChanged as change:
                served, by_number = self._known(change.version, end_s), True
            except ContractViolation:
                latest = self._read(None, end_s)
                if latest == served:
                    raise
                served = latest
        raise ModelUnavailable("the model must stay at one version for a request, got one after another; try again")

    def served(self) -> Served:
        """Return the contract in force, read on first use."""
        return self._served or self._read(None, self._end_s())

    def ready(self) -> int:
        """Return the highest version the server has AVAILABLE; raises ModelUnavailable where there is none."""
        request = protos.GetModelStatusRequest()
        request.model_spec.name = self.model
        response = self._call(STATUS, request.SerializeToString(), self._end_s())
        try:
            answer = protos.GetModelStatusResponse.FromString(response)
        except DecodeError as error:
            got = f"{len(response)} other bytes"
            raise ContractViolation(f"the answer must be a GetModelStatusResponse, got {got}") from error
        states = {status.version: status.state for status in answer.model_version_status}
        available = [version for version, state in states.items() if state == protos.ModelVersionStatus.AVAILABLE]
        if not available:
            names = [protos.state_name(state) for state in states.values()]
            raise ModelUnavailable(f"a version of the model must be AVAILABLE, got {', '.join(names) or 'no version'}")
        return int(max(available))

    def close(self) -> None:
        """Close the channel; the next call opens another."""
        with self._lock:
            if self._channel is not None:
                self._channel.close()
            self._channel = self._served = None
            self._contracts.clear()

    def _end_s(self) -> float:
        return time.monotonic() + self._deadline_s

    def _predictor(self, served: Served, by_number: bool, end_s: float) -> Predict:
        def predict(inputs: Mapping[str, Array], expected: tuple[wire.Expected, ...]) -> wire.Answer:
            names = tuple(want.name for want in expected)
            version = served.version if by_number else None
            request = wire.encode_request(self.model, served.contract.signature, inputs, names, version)
            response = self._call(PREDICT, request, end_s, by_number)
            try:
                return wire.decode_response(response, expected, served.version)
            except VersionChanged as change:
                if self._known(change.version, end_s).contract != served.contract:
                    raise
                return wire.decode_response(response, expected, change.version)

        return predict

    def _known(self, version: int, end_s: float) -> Served:
        """Return the contract of ``version``, read unless it was before, and put it in force."""
        contract = self._contracts.get(version)
        if contract is None:
            return self._read(version, end_s)
        self._served = Served(contract, version)
        return self._served

    def _read(self, version: int | None, end_s: float) -> Served:
        """Read the contract of ``version``, None for the latest, and put it in force."""
        fresh = self._stated(version, end_s) or self._derived(version, end_s)
        logger.info("model %s version %d: contract from %s", self.model, fresh.version, fresh.contract.source)
        with self._lock:
            self._contracts[fresh.version] = fresh.contract
            for old in sorted(self._contracts)[:-VERSIONS_KEPT]:
                del self._contracts[old]
        self._served = fresh
        return fresh

    def _stated(self, version: int | None, end_s: float) -> Served | None:
        """Return the contract that the model itself states, None where it has no such signature."""
        query = {CONTRACT_QUERY: np.zeros(1, np.int8)}
        request = wire.encode_request(self.model, CONTRACT_SIGNATURE, query, (CONTRACT_OUTPUT,), version)
        try:
            response = self._call(PREDICT, request, end_s, version is not None)
        except ContractViolation as error:
            if NO_SIGNATURE in error.reason:
                return None
            raise
        text, answered = wire.decode_string(response, CONTRACT_OUTPUT)
        return Served(ModelContract.from_json(text), answered)

    def _derived(self, version: int | None, end_s: float) -> Served:
        request = protos.GetModelMetadataRequest(metadata_field=["signature_def"])
        request.model_spec.name = self.model
        if version is not None:
            request.model_spec.version.value = version
        response = self._call(METADATA, request.SerializeToString(), end_s, version is not None)
        contract = self._derive(response)
        return Served(contract, protos.GetModelMetadataResponse.FromString(response).model_spec.version.value)

    def _call(self, method: str, request: bytes, end_s: float, by_number: bool = False) -> bytes:
        """Return the answer's bytes; raises the BackendError that :func:`translate` names.

        ``by_number``: the request names a version, so that NOT_FOUND is worth a retry: another replica may have it.
        """
        call = self._open().unary_unary(method)
        for attempt in range(ATTEMPTS):
            try:
                answer: bytes = call(request, timeout=max(0.001, end_s - time.monotonic()))
            except grpc.RpcError as error:
                wait_s = RETRY_WAIT_S * 2**attempt * random.uniform(0.5, 1.5)  # noqa: S311 - spreads retries, no secret
                last = attempt == ATTEMPTS - 1 or time.monotonic() + wait_s >= end_s
                elsewhere = by_number and error.code() == grpc.StatusCode.NOT_FOUND
                if last or not (elsewhere or is_busy(error.code(), error.details())):
                    raise translate(error.code(), error.details(), self.model) from error
                time.sleep(wait_s)
            else:
                return answer
        raise AssertionError("the last attempt returns or raises")

    def _open(self) -> Any:
        """Return this process's channel; one inherited through a fork does not work and is left behind."""
        with self._lock:
            if self._channel is None or self._owner_pid != os.getpid():
                self._channel = grpc.insecure_channel(self._address, options=CHANNEL_OPTIONS)
                self._owner_pid = os.getpid()
            return self._channel


def is_busy(code: Any, details: str | None) -> bool:
    """Tell a server short of threads from a message over a size limit: both are RESOURCE_EXHAUSTED."""
    return code == grpc.StatusCode.RESOURCE_EXHAUSTED and BUSY in (details or "")


def translate(code: Any, details: str | None, model: str) -> BackendError:
    """Return the error for a gRPC status. ``details`` decides, and is kept as the reason, but never told to clients."""
    codes = grpc.StatusCode
    reason = f"{code.name}: {details}"
    if code == codes.UNAVAILABLE:
        return ModelUnavailable("the model server cannot be reached", reason)
    if is_busy(code, details):
        return ModelUnavailable("the model server is busy", reason)
    if code == codes.NOT_FOUND:
        return ModelUnavailable(f"the model server must serve model {model!r}, got NOT_FOUND", reason)
    if code == codes.DEADLINE_EXCEEDED:
        return ModelTimeout("the model server did not answer within the deadline", reason)
    if code in (codes.INVALID_ARGUMENT, codes.FAILED_PRECONDITION):
        return ContractViolation(f"model {model!r} must accept what its contract says, got {code.name}", reason)
    return BackendError(f"the model server must answer OK, got {code.name}", reason)
