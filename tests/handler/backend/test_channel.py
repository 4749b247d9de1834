"""The channel: statuses, retries, deadlines, sizes; on a real gRPC server."""

import re
import time

import grpc
import numpy as np
import pytest

from handler import errors
from handler.backend.channel import Channel, translate
from handler.backend.client import PREDICT
from handler.backend.wire import ModelSpec, decode_response, encode_request
from handler.types import TensorSpec
from tests.support.backend import Backend, serve

STATUSES = {
    "OK": 502,
    "CANCELLED": 503,
    "UNKNOWN": 502,
    "INVALID_ARGUMENT": 502,
    "DEADLINE_EXCEEDED": 504,
    "NOT_FOUND": 503,
    "ALREADY_EXISTS": 502,
    "PERMISSION_DENIED": 503,
    "UNAUTHENTICATED": 503,
    "RESOURCE_EXHAUSTED": 502,
    "FAILED_PRECONDITION": 502,
    "ABORTED": 502,
    "UNIMPLEMENTED": 502,
    "INTERNAL": 502,
    "UNAVAILABLE": 503,
    "DATA_LOSS": 502,
    "OUT_OF_RANGE": 502,
}
BUSY = (grpc.StatusCode.RESOURCE_EXHAUSTED, "Server Threadpool Exhausted")
IMAGE = {"input_image": np.zeros((1, 600, 600, 3), np.int8)}  # over gRPC's default retry buffer of 256 KiB
REQUEST = encode_request(ModelSpec("shapes"), "serving_default", IMAGE)
WANT = (TensorSpec("mrcnn_mask", "int8", (1, None, None, None)),)


@pytest.fixture
def backend():
    return Backend()


@pytest.fixture
def channel(backend):
    with serve(backend) as address:
        channel = Channel(address, "shapes")
        yield channel
        channel.close()


def ask(channel, deadline_s=5.0):
    return channel.call(PREDICT, REQUEST, time.monotonic() + deadline_s)


def test_every_status_has_an_error():
    assert {code.name for code in grpc.StatusCode} == set(STATUSES)
    for code in grpc.StatusCode:
        error = translate(code, "ipv4:10.1.2.3:8500: /secret", "shapes")
        assert error.status == STATUSES[code.name]
        assert "10.1.2.3" not in error.detail
        assert "secret" not in error.detail
        assert (error.retry_after_s is not None) == (error.status == 503)


def test_a_busy_server_is_not_a_message_too_large():
    assert isinstance(translate(*BUSY, "shapes"), errors.ModelUnavailable)
    too_large = "Received message larger than max (5 vs. 4)"
    assert type(translate(grpc.StatusCode.RESOURCE_EXHAUSTED, too_large, "shapes")) is errors.BackendError


def test_a_server_that_joins_requests_is_named():
    full = "The batch scheduling queue to which this task was submitted is full; currently 10 batches enqueued"
    assert "busy" in translate(grpc.StatusCode.UNAVAILABLE, full, "shapes").detail
    for text in (
        "Tensors with name 'x' from different tasks have different shapes and padding is turned off.Set pad_variable",
        "Batched output tensor's 0th dimension does not equal the sum of the 0th dimension sizes of the input tensors",
    ):
        error = translate(grpc.StatusCode.FAILED_PRECONDITION, text, "shapes")
        assert error.status == 502
        assert "batching" in error.detail
    other = translate(grpc.StatusCode.FAILED_PRECONDITION, 'Serving signature key "x" not found.', "shapes")
    assert "batching" not in other.detail


@pytest.mark.parametrize("error", [(grpc.StatusCode.UNAVAILABLE, "gone"), (grpc.StatusCode.CANCELLED, "stopped"), BUSY])
def test_big_requests_are_retried(channel, backend, error):
    backend.errors = [error, error]
    assert decode_response(ask(channel), WANT).outputs["mrcnn_mask"].shape == (1, 5, 4, 4)
    assert len(backend.calls) == 3


def test_a_version_that_is_not_there_may_be_on_another_replica(channel, backend):
    absent = (grpc.StatusCode.NOT_FOUND, "Servable not found")
    backend.errors = [absent, absent]
    assert decode_response(ask(channel), WANT).version == 1
    backend.errors = [absent] * 50
    with pytest.raises(errors.NotServed, match="'shapes', got NOT_FOUND"):
        ask(channel)


def test_a_message_over_a_limit_is_not_retried(channel, backend):
    backend.errors = [(grpc.StatusCode.RESOURCE_EXHAUSTED, "message larger than max")] * 2
    with pytest.raises(errors.BackendError, match="RESOURCE_EXHAUSTED"):
        ask(channel)
    assert len(backend.errors) == 1


def test_the_deadline_covers_the_retries(channel, backend):
    backend.errors = [BUSY] * 5000
    start = time.monotonic()
    with pytest.raises(errors.ModelUnavailable, match="busy"):
        ask(channel, 0.3)
    assert time.monotonic() - start < 4
    assert 2 <= 5000 - len(backend.errors) <= 12  # pauses grow


def test_a_slow_server_is_a_timeout(backend):
    answer = backend.predict

    def slow(request, context):
        time.sleep(0.5)
        return answer(request, context)

    backend.predict = slow
    with serve(backend) as address:
        channel = Channel(address, "shapes")
        with pytest.raises(errors.ModelTimeout):
            ask(channel, 0.2)
        channel.close()


def test_answers_over_4_mib_are_received(channel, backend):
    backend.outputs["mrcnn_mask"] = np.full((1, 100, 224, 224), 3, np.int8)
    assert decode_response(ask(channel), WANT).outputs["mrcnn_mask"].nbytes > 4 << 20


def test_nobody_listens():
    channel = Channel("localhost:1", "shapes")
    with pytest.raises(errors.ModelUnavailable, match="cannot be reached") as failure:
        ask(channel, 0.5)
    assert failure.value.reason.startswith("UNAVAILABLE: ")
    assert re.search("; repeated [0-9]+ times$", failure.value.reason)
    channel.close()


def test_a_closed_channel_opens_again(channel):
    ask(channel)
    channel.close()
    assert decode_response(ask(channel), WANT).version == 1
