import contextlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from handler.backend import protos
from handler.backend.wire import ModelSpec, PlacedImage, decode_response, decode_string, encode_request
from handler.errors import ContractViolation, VersionChanged
from handler.types import Inputs, TensorSpec

GOLDEN = Path(__file__).parents[2] / "deploy" / "model_server" / "golden"
FIELDS = {np.dtype(np.int8): "int_val", np.dtype(np.uint8): "int_val", np.dtype(np.float32): "float_val"}
TYPES = {np.dtype(np.int8): protos.DT_INT8, np.dtype(np.uint8): protos.DT_UINT8, np.dtype(np.float32): protos.DT_FLOAT}
ARRAYS = st.sampled_from([np.int8, np.uint8, np.float32]).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=6))
)


def response(array, content, version=3):
    """Write the array as TensorFlow Serving does, by protobuf."""
    message = protos.PredictResponse()
    message.model_spec.version.value = version
    tensor = message.outputs["y"]
    tensor.dtype = TYPES[array.dtype]
    for size in array.shape:
        tensor.tensor_shape.dim.add(size=size)
    if content:
        tensor.tensor_content = array.tobytes()
    else:
        getattr(tensor, FIELDS[array.dtype]).extend(array.ravel().tolist())
    return message


def expected(array):
    return (TensorSpec("y", array.dtype.name, (None,) * array.ndim),)


@given(ARRAYS, st.booleans())
def test_responses_round_trip(array, content):
    answer = decode_response(response(array, content).SerializeToString(), expected(array))
    assert answer.version == 3
    assert answer.outputs["y"].dtype == array.dtype
    assert np.array_equal(answer.outputs["y"], array, equal_nan=array.dtype == np.float32)


def test_strings_and_int32_are_what_protobuf_reads():
    jpeg = b"\xff\xd8 any bytes \0"
    inputs: Inputs = {"image_jpeg": jpeg, "orientation": np.array([6], np.int32)}
    request = protos.PredictRequest.FromString(encode_request(ModelSpec("m"), "segment_jpeg", inputs))
    image, orientation = request.inputs["image_jpeg"], request.inputs["orientation"]
    assert (image.dtype, [dim.size for dim in image.tensor_shape.dim]) == (protos.DT_STRING, [1])
    assert list(image.string_val) == [jpeg]
    assert (orientation.dtype, [dim.size for dim in orientation.tensor_shape.dim]) == (protos.DT_INT32, [1])
    assert orientation.tensor_content == bytes([6, 0, 0, 0])


def test_every_code_both_ways():
    codes = np.arange(-128, 128, dtype=np.int8)
    for content in (True, False):
        answer = decode_response(response(codes, content).SerializeToString(), expected(codes))
        assert np.array_equal(answer.outputs["y"], codes)


def test_the_example_of_the_module():
    entry = "12 15 0a 01 78 12 10 08 06 12 08 12 02 08 01 12 02 08 02 22 02 07 08"
    request = encode_request(ModelSpec("shapes"), "sig", {"x": np.array([[7, 8]], np.int8)})
    assert request.endswith(bytes.fromhex(entry))


@given(ARRAYS)
def test_requests_are_what_protobuf_and_numpy_read(array):
    request = protos.PredictRequest.FromString(encode_request(ModelSpec("shapes"), "sig", {"x": array}, ("a", "b")))
    assert request.model_spec.name == "shapes"
    assert request.model_spec.signature_name == "sig"
    assert list(request.output_filter) == ["a", "b"]
    tensor = request.inputs["x"]
    assert tensor.dtype == TYPES[array.dtype]
    read = np.frombuffer(tensor.tensor_content, array.dtype).reshape([dim.size for dim in tensor.tensor_shape.dim])
    assert np.array_equal(read, array, equal_nan=array.dtype == np.float32)


@given(hnp.arrays(np.int8, st.tuples(st.just(1), st.integers(1, 99), st.integers(1, 99), st.just(3))))
def test_a_request_with_the_image_in_its_place_is_the_same(image):
    spec, others = ModelSpec("shapes", 7), {"size": np.array([image.shape[1:3]], np.int32)}
    placed = PlacedImage(encode_request(spec, "sig", others, ("a", "b")), "x", image.shape[1:3])
    placed.codes[...] = image
    assert placed.to_bytes() == encode_request(spec, "sig", {**others, "x": image}, ("a", "b"))


def test_a_request_is_not_sent_while_its_image_may_still_change():
    placed = PlacedImage(b"", "x", (2, 2))
    codes = placed.codes
    with pytest.raises(BufferError):
        placed.to_bytes()
    codes[...] = 5
    del codes
    assert placed.to_bytes().endswith(bytes([5] * 12))


@pytest.mark.parametrize("content", [False, True])
def test_one_value_does_not_stand_for_all(content):
    message = response(np.array([7], np.int8), content=content)
    message.outputs["y"].tensor_shape.dim[0].size = 4
    with pytest.raises(ContractViolation, match="with 1 values"):
        decode_response(message.SerializeToString(), (TensorSpec("y", "int8", (4,)),))


def test_unpacked_values_and_split_runs_are_read():
    whole = response(np.array([1, -2, 3], np.int8), content=False)
    del whole.outputs["y"].int_val[:]
    tensor = whole.outputs["y"].SerializeToString()
    negative = b"\xfe" + b"\xff" * 8 + b"\x01"
    for values in (b"\x38\x01\x38" + negative + b"\x38\x03", b"\x3a\x01\x01\x3a\x0a" + negative + b"\x3a\x01\x03"):
        body = tensor + values
        entry = b"\x0a\x01y\x12" + bytes([len(body)]) + body
        answer = decode_response(b"\x0a" + bytes([len(entry)]) + entry, (TensorSpec("y", "int8", (3,)),))
        assert answer.outputs["y"].tolist() == [1, -2, 3]


def broken(change):
    message = response(np.array([[1, -2, 3]], np.int8), content=False)
    change(message.outputs["y"])
    return message.SerializeToString()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.int_val.pop(), r"y must be int8 \[1, any\], got int8 \[1, 3\] with 2 values"),
        (lambda t: t.int_val.append(4), "with 4 values"),
        (lambda t: t.int_val.__setitem__(0, 200), "values out of range"),
        (lambda t: t.int_val.__setitem__(0, -129), "values out of range"),
        (lambda t: t.ClearField("int_val"), "with 0 values"),
        (lambda t: setattr(t, "dtype", protos.DT_FLOAT), r"got float32 \[1, 3\]"),
        (lambda t: setattr(t, "dtype", 999), r"got type 999 \[1, 3\]"),
        (lambda t: setattr(t.tensor_shape.dim[0], "size", 2), r"got int8 \[2, 3\]"),
        (lambda t: setattr(t.tensor_shape.dim[1], "size", -1), r"got int8 \[1, -1\]"),
        (lambda t: setattr(t.tensor_shape.dim[1], "size", 1 << 40), "with 3 values"),
        (lambda t: setattr(t, "tensor_content", b"12"), "with 2 values"),
    ],
)
def test_what_breaks_the_contract_is_named(change, message):
    with pytest.raises(ContractViolation, match=message):
        decode_response(broken(change), (TensorSpec("y", "int8", (1, None)),))


def test_a_missing_output_names_what_came():
    with pytest.raises(ContractViolation, match=r"mrcnn_mask must be int8 \[any\], got only y"):
        decode_response(
            response(np.zeros(1, np.int8), True).SerializeToString(), (TensorSpec("mrcnn_mask", "int8", (None,)),)
        )


@given(st.binary(max_size=80))
def test_any_bytes_are_an_answer_or_a_violation(data):
    with contextlib.suppress(ContractViolation):
        decode_response(data, (TensorSpec("y", "int8", (None,)),))


@given(st.binary(max_size=60))
def test_any_packed_run_reads_as_protobuf_reads_it(run):
    body = b"\x08\x06\x12\x04\x12\x02\x08" + bytes([2]) + b"\x3a" + bytes([len(run)]) + run
    entry = b"\x0a\x01y\x12" + bytes([len(body)]) + body
    data = b"\x0a" + bytes([len(entry)]) + entry
    try:
        ours = decode_response(data, (TensorSpec("y", "int8", (2,)),)).outputs["y"].tolist()
    except ContractViolation:
        return
    theirs = list(protos.PredictResponse.FromString(data).outputs["y"].int_val)
    assert ours == theirs


def strings(count, *values, content=b""):
    message = protos.PredictResponse()
    tensor = message.outputs["contract"]
    tensor.dtype = protos.DT_STRING
    tensor.tensor_shape.dim.add(size=count)
    tensor.string_val.extend(values)
    tensor.tensor_content = content
    message.model_spec.version.value = 9
    return message.SerializeToString()


@pytest.mark.parametrize(
    "response",
    [
        strings(1, b"{}"),
        strings(2, b"{}", b"x"),
        strings(1, content=b"\x02{}"),
        strings(3, content=b"\x02\x00\x01{}x"),
    ],
)
def test_strings_in_both_forms(response):
    assert decode_string(response, "contract") == (b"{}", 9)


def test_a_long_string_in_tensor_content():
    text = b"x" * 300
    assert decode_string(strings(1, content=b"\xac\x02" + text), "contract") == (text, 9)


@pytest.mark.parametrize(
    "response",
    [
        strings(0),
        strings(1),
        strings(1, content=b"\x05ab"),
        strings(1, content=b"\xff" * 300_000 + b"\x01"),
        strings(2, content=b"\x02"),
        strings(-1, b"{}"),
    ],
)
def test_missing_strings_are_named(response):
    with pytest.raises(ContractViolation, match="contract must be"):
        decode_string(response, "contract")


def test_another_name_is_named():
    with pytest.raises(ContractViolation, match="other must be a non-empty string"):
        decode_string(strings(1, b"{}"), "other")


def test_another_version_is_told_before_anything_else():
    with pytest.raises(VersionChanged, match="version 2 must answer, got version 3") as changed:
        decode_response(
            response(np.zeros(1, np.int8), True).SerializeToString(), (TensorSpec("z", "int8", ()),), version=2
        )
    assert changed.value.version == 3


@pytest.mark.parametrize("name", ["segment_contract_plain", "tensor_content_segment_contract"])
def test_the_answers_recorded_from_tensorflow_serving(name):
    assert decode_string((GOLDEN / f"{name}.resp.pb").read_bytes(), "contract") == (b'{"q":-128}', 2)
