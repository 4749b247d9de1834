"""Both encodings against TensorFlow's and protobuf's own."""

import time

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow_serving.apis import model_pb2, predict_pb2

from deploy.model_server import tensors, varints
from deploy.model_server.predict import encode_response

BFLOAT16 = tf.bfloat16.as_numpy_dtype
NUMERIC = [
    *(np.bool_, np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64),
    *(np.float16, np.float32, np.float64, np.complex64, np.complex128),
]
SHAPES = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=6)
ARRAYS = st.sampled_from(NUMERIC).flatmap(lambda dtype: hnp.arrays(dtype, SHAPES))
BRAIN_FLOATS = hnp.arrays(np.float32, SHAPES, elements=st.floats(width=16)).map(lambda array: array.astype(BFLOAT16))
STRINGS = st.lists(st.binary(max_size=300), max_size=5).map(lambda texts: np.array(texts, dtype=object))


def encoded(array, as_content):
    return tensor_pb2.TensorProto.FromString(b"".join(tensors.encode(array, as_content=as_content)))


@given(array=ARRAYS | BRAIN_FLOATS, as_content=st.booleans())
def test_numbers_round_trip_and_tensorflow_reads_them_alike(array, as_content):
    proto = encoded(array, as_content)
    assert bool(proto.tensor_content) == (as_content and bool(array.size))
    for read in (tensors.decode(proto), tf.make_ndarray(proto)):
        assert (read.shape, read.dtype) == (array.shape, array.dtype)
        assert read.tobytes() == array.tobytes()


@given(array=STRINGS, as_content=st.booleans())
def test_strings_round_trip(array, as_content):
    proto = encoded(array, as_content)
    assert tensors.decode(proto).tolist() == array.tolist()
    if not as_content and len(array):  # TensorFlow's Python reader knows strings as values only
        assert tf.make_ndarray(proto).tolist() == array.tolist()


@given(array=ARRAYS)
def test_requests_made_by_tensorflow_are_read(array):
    assert tensors.decode(tf.make_tensor_proto(array)).tobytes() == array.tobytes()


@given(
    values=st.sampled_from(
        [("int_val", np.int8), ("int_val", np.int32), ("int64_val", np.int64), ("uint64_val", np.uint64)]
    ).flatmap(lambda pair: st.tuples(st.just(pair[0]), hnp.arrays(pair[1], st.integers(0, 50))))
)
def test_packed_values_are_protobufs_own_bytes(values):
    field, array = values
    proto = tensor_pb2.TensorProto(**{field: array.tolist()})
    number = proto.DESCRIPTOR.fields_by_name[field].number
    expected = b"".join(varints.delimited(number, varints.packed(array))) if array.size else b""
    assert proto.SerializeToString() == expected


@given(value=st.integers(0, 2**64 - 1), before=st.binary(max_size=3), after=st.binary(max_size=3))
def test_varint_round_trips(value, before, after):
    text = before + varints.varint(value) + after
    assert varints.read_varint(text, len(before)) == (value, len(text) - len(after))


@pytest.mark.parametrize("text", [b"", b"\x80", b"\xff" * 11])
def test_a_varint_without_end_is_refused(text):
    with pytest.raises(ValueError, match="must end within"):
        varints.read_varint(text, 0)


def shaped(dtype, *sizes, **values):
    proto = tensor_pb2.TensorProto(dtype=dtype, **values)
    for size in sizes:
        proto.tensor_shape.dim.add(size=size)
    return proto


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], [0, 0, 0]),
        ([5], [5, 5, 5]),
        ([5, 6], [5, 6, 6]),
        ([1, 2, 3, 4], [1, 2, 3]),
        ([200, 1, -129], [-56, 1, 127]),
    ],
)
def test_values_fill_repeat_overflow_and_wrap(values, expected):
    assert tensors.decode(shaped(types_pb2.DT_INT8, 3, int_val=values)).tolist() == expected


def test_short_string_lists_repeat():
    proto = shaped(types_pb2.DT_STRING, 3, string_val=[b"a", b"b"])
    assert tensors.decode(proto).tolist() == [b"a", b"b", b"b"]
    assert tensors.decode(shaped(types_pb2.DT_STRING, 2)).tolist() == [b"", b""]


@pytest.mark.parametrize(
    "proto",
    [
        tensor_pb2.TensorProto(),
        shaped(77, 1),
        shaped(types_pb2.DT_RESOURCE, 1),
        shaped(types_pb2.DT_INT8, -1),
        shaped(types_pb2.DT_INT8, 2**40, 2**40),
        shaped(types_pb2.DT_INT8, *[1] * 65),  # to 254 TensorFlow takes them, NumPy does not
        shaped(types_pb2.DT_INT8, 0, 2**40, 2**40),  # TensorFlow takes it, NumPy does not
        shaped(types_pb2.DT_BOOL, 2, tensor_content=b"\1\2"),
        shaped(types_pb2.DT_INT8, 2, tensor_content=b"x"),
        shaped(types_pb2.DT_INT8, 2, tensor_content=b"xxx"),
        shaped(types_pb2.DT_STRING, 2, tensor_content=b"\x01"),
        shaped(types_pb2.DT_STRING, 1, tensor_content=b"\x02x"),
        shaped(types_pb2.DT_STRING, 1, tensor_content=b"\x01xx"),
    ],
)
def test_no_tensor_is_no_tensor(proto):
    with pytest.raises(tensors.TensorParseError):
        tensors.decode(proto)


FIELDS: dict[str, list] = {  # some values of every field
    "float_val": [1.5, -2.0],
    "double_val": [1.5, -2.0],
    "int_val": [1, -1, 200],
    "int64_val": [1, -1],
    "uint32_val": [1, 2],
    "uint64_val": [1, 2],
    "bool_val": [True, False],
    "half_val": [15360, 1],
    "scomplex_val": [1.0, 2.0, 3.0],
    "dcomplex_val": [1.0, 2.0, 3.0],
}


@given(
    number=st.sampled_from(sorted(tensors._FORMS)),
    sizes=st.lists(st.sampled_from([-1, 0, 1, 2, 3]), max_size=3),
    unknown_rank=st.booleans(),
    content=st.none() | st.lists(st.sampled_from([0, 1, 2, 255]), max_size=32).map(bytes),
    count=st.integers(0, 3),
)
def test_what_tensorflow_parses_is_parsed_alike_and_nothing_else(number, sizes, unknown_rank, content, count):
    proto = shaped(number, *sizes)
    proto.tensor_shape.unknown_rank = unknown_rank
    getattr(proto, tensors._FORMS[number].field).extend(FIELDS[tensors._FORMS[number].field][:count])
    if content is not None:
        proto.tensor_content = content
    try:
        expected = tf.io.parse_tensor(proto.SerializeToString(), tf.dtypes.as_dtype(number)).numpy()
    except tf.errors.InvalidArgumentError:
        with pytest.raises(tensors.TensorParseError):
            tensors.decode(proto)
    else:
        read = tensors.decode(proto)
        assert (read.shape, read.dtype, read.tobytes()) == (expected.shape, expected.dtype, expected.tobytes())


def test_a_dtype_without_a_field_is_refused():
    with pytest.raises(TypeError, match="datetime64"):
        tensors.encode(np.zeros(1, "datetime64[s]"), as_content=False)


def test_a_response_is_the_messages_own_bytes_read_back():
    spec = model_pb2.ModelSpec(name="m", signature_name="s")
    outputs = {"a": np.arange(3, dtype=np.float32), "ü": np.array(b"x", dtype=object)}
    reply = predict_pb2.PredictResponse.FromString(encode_response(outputs, spec, as_content=False))
    assert reply.model_spec == spec
    assert {alias: tf.make_ndarray(proto).tolist() for alias, proto in reply.outputs.items()} == {
        "a": [0.0, 1.0, 2.0],
        "ü": b"x",
    }


def test_a_full_mask_reply_is_encoded_without_an_object_per_value():
    masks = np.random.default_rng(0).integers(-128, 128, (1, 100, 28, 28, 81), dtype=np.int8)
    began_s = time.process_time()
    payload = varints.packed(masks)
    elapsed_s = time.process_time() - began_s
    assert len(payload) == int((masks >= 0).sum() + 10 * (masks < 0).sum())
    assert elapsed_s < 2  # 6.35 million values; one Python object each would take longer even on a fast machine


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_codes_on_both_sides_of_a_chunk_are_encoded_alike(dtype):
    codes = np.arange(varints._CHUNK + 300).astype(dtype)
    expected = tensor_pb2.TensorProto(int_val=codes.tolist()).SerializeToString()
    assert b"".join(varints.delimited(7, varints.packed(codes))) == expected
