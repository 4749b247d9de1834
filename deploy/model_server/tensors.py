"""TensorProto -> array (decode) and array -> TensorProto bytes (encode), in both of TensorFlow Serving's forms.

Proto fields (the default): one packed ``*_val`` field; ``tensor_content``: raw little-endian bytes, strings as all
their lengths followed by all their bytes. Source: tensorflow ``core/framework/tensor.cc`` FromProto, AsProtoField.
"""

import math
import os
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2, types_pb2

from deploy.model_server import varints

_CONTENT_FIELD = 4
_STRING_FIELD = 8
_MAX_RANK = 64  # of NumPy; TensorFlow's is 254
_MAX_BYTES = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")  # memory of this machine, which no tensor exceeds
_MAX_ELEMENTS = 1 << 58  # of NumPy, which counts the bytes of an empty array without its empty sides
_REFERENCES = 100  # DataTypes above it are of references, which no message carries


class TensorParseError(ValueError):
    """A TensorProto that describes no tensor."""


@dataclass(frozen=True)
class _Form:
    """How one dtype is sent: in ``field`` with ``number``, as values of ``carrier``, or as their bits if ``view``."""

    dtype: npt.DTypeLike
    field: str
    number: int
    carrier: npt.DTypeLike
    view: npt.DTypeLike | None = None


_FORMS: dict[int, _Form] = {
    types_pb2.DT_FLOAT: _Form(np.float32, "float_val", 5, np.float32),
    types_pb2.DT_DOUBLE: _Form(np.float64, "double_val", 6, np.float64),
    types_pb2.DT_INT32: _Form(np.int32, "int_val", 7, np.int32),
    types_pb2.DT_INT16: _Form(np.int16, "int_val", 7, np.int32),
    types_pb2.DT_INT8: _Form(np.int8, "int_val", 7, np.int32),
    types_pb2.DT_UINT8: _Form(np.uint8, "int_val", 7, np.int32),
    types_pb2.DT_UINT16: _Form(np.uint16, "int_val", 7, np.int32),
    types_pb2.DT_COMPLEX64: _Form(np.complex64, "scomplex_val", 9, np.float32, view=np.float32),
    types_pb2.DT_INT64: _Form(np.int64, "int64_val", 10, np.int64),
    types_pb2.DT_BOOL: _Form(np.bool_, "bool_val", 11, np.bool_),
    types_pb2.DT_COMPLEX128: _Form(np.complex128, "dcomplex_val", 12, np.float64, view=np.float64),
    types_pb2.DT_HALF: _Form(np.float16, "half_val", 13, np.int32, view=np.uint16),
    types_pb2.DT_BFLOAT16: _Form(tf.bfloat16.as_numpy_dtype, "half_val", 13, np.int32, view=np.uint16),
    types_pb2.DT_UINT32: _Form(np.uint32, "uint32_val", 16, np.uint32),
    types_pb2.DT_UINT64: _Form(np.uint64, "uint64_val", 17, np.uint64),
}
_DATA_TYPES = {np.dtype(form.dtype): number for number, form in _FORMS.items()}
OTHER_TYPES = {  # that TensorFlow has and this server does not: int4, float8, qint8, resource, variant ...
    number for number in types_pb2.DataType.values() if 0 < number < _REFERENCES
} - {*_FORMS, types_pb2.DT_STRING}

if sys.byteorder != "little":
    raise ImportError("this machine must be little-endian, as tensor_content is, which is copied verbatim")


def type_name(data_type: int) -> str:
    """Return the dtype's name as TensorFlow's messages spell it: ``float``, ``double``, ``int8``, ``string``."""
    name: str = types_pb2.DataType.Name(data_type)
    return name.removeprefix("DT_").lower()


def data_type(array: npt.NDArray[Any]) -> int:
    """Return the DataType of ``array``; object and bytes arrays are strings. Raises TypeError for any other kind."""
    if array.dtype.kind in "OS":
        return int(types_pb2.DT_STRING)
    if array.dtype not in _DATA_TYPES:
        raise TypeError(f"a tensor must have a dtype with a TensorProto field, got {array.dtype}")
    return _DATA_TYPES[array.dtype]


def decode(proto: tensor_pb2.TensorProto) -> npt.NDArray[Any]:
    """Decode a tensor of a request; strings become an object array of bytes.

    ``tensor_content`` wins over values and must fit exactly. Values may be too many (the surplus is ignored), too few
    (the last one repeats) or none (zeros), and wrap into narrower integers. Raises TensorParseError.
    """
    shape = read_shape(proto)
    form = _FORMS.get(proto.dtype)
    if form is None and proto.dtype != types_pb2.DT_STRING:
        raise TensorParseError(f"dtype must be one a request can carry, got {proto.dtype}")
    count = math.prod(shape)
    if form is None:
        return _decode_strings(proto, count).reshape(shape)
    if proto.tensor_content and count:
        dtype = np.dtype(form.dtype)
        if len(proto.tensor_content) != count * dtype.itemsize:
            raise TensorParseError(
                f"tensor_content must be {count * dtype.itemsize} bytes, got {len(proto.tensor_content)}"
            )
        if proto.dtype == types_pb2.DT_BOOL and max(proto.tensor_content) > 1:
            raise TensorParseError(f"a bool must be 0 or 1, got {max(proto.tensor_content)}")
        return np.frombuffer(proto.tensor_content, dtype).reshape(shape)
    return _decode_values(proto, form, count).reshape(shape)


def read_shape(proto: tensor_pb2.TensorProto) -> tuple[int, ...]:
    """Return the sizes of a tensor, () if its rank is unknown. Raises TensorParseError if no array can have them."""
    shape = tuple(int(dim.size) for dim in proto.tensor_shape.dim)
    elements = math.prod(size or 1 for size in shape)
    fits = math.prod(shape) * 16 <= _MAX_BYTES and elements < _MAX_ELEMENTS
    if len(shape) > _MAX_RANK or min(shape, default=0) < 0 or not fits:
        raise TensorParseError(f"shape must have sizes of at least 0 and fit into memory, got {shape[:_MAX_RANK]}")
    return shape


def encode(array: npt.NDArray[Any], *, as_content: bool) -> list[bytes]:
    """Serialise a TensorProto of a reply, in parts to be joined.

    ``array``: any dtype of _FORMS, or object/bytes for strings. Raises TypeError for another.
    """
    number = data_type(array)
    header = tensor_pb2.TensorProto(dtype=number)
    for size in array.shape:
        header.tensor_shape.dim.add(size=size)
    header.tensor_shape.SetInParent()  # a scalar has a shape without dimensions, not no shape
    parts = [header.SerializeToString()]
    if not array.size:
        return parts
    if number == types_pb2.DT_STRING:
        texts = [bytes(text) for text in array.reshape(-1)]
        if as_content:
            lengths = b"".join(varints.varint(len(text)) for text in texts)
            return parts + varints.delimited(_CONTENT_FIELD, lengths, *texts)
        return parts + [piece for text in texts for piece in varints.delimited(_STRING_FIELD, text)]
    if as_content:
        return parts + varints.delimited(_CONTENT_FIELD, array.tobytes())
    form = _FORMS[number]
    flat = np.ascontiguousarray(array).reshape(-1)
    carried = flat if form.view is None else flat.view(form.view)
    payload = carried.tobytes() if carried.dtype.kind == "f" else varints.packed(carried)
    return parts + varints.delimited(form.number, payload)


def _decode_values(proto: tensor_pb2.TensorProto, form: _Form, count: int) -> npt.NDArray[Any]:
    dtype = np.dtype(form.dtype)
    given = np.array(getattr(proto, form.field), dtype=form.carrier)
    if form.view is None:
        values = given.astype(dtype)
    elif given.dtype.kind == "f":  # real and imaginary part alternate
        values = given[: given.size // 2 * 2].view(dtype)
    else:
        values = given.astype(form.view).view(dtype)
    filled = np.zeros(count, dtype)
    filled[: values.size] = values[:count]
    if 0 < values.size < count:
        filled[values.size :] = values[-1]
    return filled


def _decode_strings(proto: tensor_pb2.TensorProto, count: int) -> npt.NDArray[Any]:
    texts = list(proto.string_val)[:count]
    if proto.tensor_content and count:
        texts = _split_strings(proto.tensor_content, count)
    filled = np.full(count, texts[-1] if texts else b"", dtype=object)
    filled[: len(texts)] = texts
    return filled


def _split_strings(content: bytes, count: int) -> list[bytes]:
    position = 0
    lengths = []
    try:
        for _ in range(count):
            length, position = varints.read_varint(content, position)
            lengths.append(length)
    except ValueError as error:
        raise TensorParseError(str(error)) from error
    if position + sum(lengths) != len(content):
        raise TensorParseError(f"tensor_content must be {position + sum(lengths)} bytes, got {len(content)}")
    texts = []
    for length in lengths:
        texts.append(content[position : position + length])
        position += length
    return texts
