"""Tensors of types that no segmentation model has, sent to one: as TensorFlow Serving's own code answered."""

import grpc
import pytest
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow_serving.apis import predict_pb2

from .conftest import GOLDEN

PREDICT = "/tensorflow.serving.PredictionService/Predict"
MODELS = {"predict_plain": ("input_image", "int8"), "half_plus_two_plain": ("x", "float")}
SENT = [number for number in types_pb2.DataType.values() if 0 < number < 100]


def refusal(call, case, tensor):
    """Return code and message of a recorded request with another tensor."""
    request = predict_pb2.PredictRequest.FromString((GOLDEN / f"{case}.req.pb").read_bytes())
    alias, _ = MODELS[case]
    request.inputs[alias].CopyFrom(tensor)
    with pytest.raises(grpc.RpcError) as failure:
        call(PREDICT, request.SerializeToString())
    return failure.value.code(), failure.value.details()


def parsed_as(tensor):
    """Return the name of the type that TensorFlow parses it as."""
    other = tf.string if tensor.dtype == types_pb2.DT_INT32 else tf.int32
    with pytest.raises(tf.errors.InvalidArgumentError) as failure:
        tf.io.parse_tensor(tensor.SerializeToString(), other)
    return failure.value.message.split("parsed tensor (")[1].split(")")[0]


@pytest.mark.parametrize("case", MODELS)
@pytest.mark.parametrize("number", SENT, ids=types_pb2.DataType.Name)
def test_another_type_is_named(case, number, golden_calls):
    tensor = tensor_pb2.TensorProto(dtype=number)
    tensor.tensor_shape.dim.add(size=1)
    _, expected = MODELS[case]
    given = parsed_as(tensor)
    if given != expected:
        message = f"Expects arg[0] to be {expected} but {given} is provided"
        assert refusal(golden_calls["proto_field"], case, tensor) == (grpc.StatusCode.INVALID_ARGUMENT, message)


@pytest.mark.parametrize("number", [types_pb2.DT_INT4, types_pb2.DT_RESOURCE, 101, 77, 0])
@pytest.mark.parametrize("sizes", [[-1], [1 << 60], [1] * 255])
def test_what_is_no_tensor_of_another_type_is_a_parsing_error(number, sizes, golden_calls):
    tensor = tensor_pb2.TensorProto(dtype=number)
    for size in sizes:
        tensor.tensor_shape.dim.add(size=size)
    error = grpc.StatusCode.INVALID_ARGUMENT, "tensor parsing error: input_image"
    assert refusal(golden_calls["proto_field"], "predict_plain", tensor) == error


@pytest.mark.parametrize("sizes", [[0, 1 << 40, 1 << 40], [1] * 65, [1] * 254])
def test_what_numpy_cannot_hold_is_an_error_of_the_request(sizes, golden_calls):
    tensor = tensor_pb2.TensorProto(dtype=types_pb2.DT_INT8)
    for size in sizes:
        tensor.tensor_shape.dim.add(size=size)
    assert refusal(golden_calls["proto_field"], "predict_plain", tensor)[0] == grpc.StatusCode.INVALID_ARGUMENT
