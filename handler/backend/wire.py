"""Arrays -> the bytes of a PredictRequest, and the bytes of a PredictResponse -> arrays.

*Strategy* for requests. Protobuf's messages would copy megabytes of tensor values three times. So serialize only the
small parts with protobuf, write the headers around the values by hand, and join everything: one copy. An int8 image
needs none: the request is there before its pixels (:class:`PlacedImage`). Source: protobuf.dev, "Encoding", and the
field numbers in predict.proto and tensor.proto.

Example: the input ``x``, int8 [1, 2] with the values 7 and 8, becomes this entry of the map ``inputs``::

    12 15                          field 2 (inputs), 21 bytes:
       0a 01 78                      field 1 (key), 1 byte: "x"
       12 10                         field 2 (value), 16 bytes:
          08 06                        field 1 (dtype): DT_INT8
          12 08 12 02 08 01 12 02 08 02  field 2 (shape): 1, 2
          22 02 07 08                  field 4 (tensor_content), 2 bytes: the values

Responses. TensorFlow Serving sends int8 in ``int_val`` (its default) or ``tensor_content``, and float32 in
``float_val`` or ``tensor_content``. In ``int_val``, 0..127 take 1 byte and negative codes take 10, because they are
extended to 64 bits. Each form is read by vector operations, but protobuf reads a message with many negative codes; see
:mod:`handler.backend.protos` and :mod:`handler.backend.varint`.
"""

import io
import math
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
from google.protobuf.message import DecodeError

from handler.backend import protos, varint
from handler.errors import ContractViolation, VersionChanged
from handler.types import Array, Inputs, Prediction, Size, TensorSpec

INPUTS, KEY, VALUE, TENSOR_CONTENT, STRING_VAL = 2, 1, 2, 4, 8  # fields of PredictRequest, map entry, TensorProto
_NUMPY: dict[int, np.dtype[Any]] = {
    protos.DT_FLOAT: np.dtype(np.float32),
    protos.DT_INT8: np.dtype(np.int8),
    protos.DT_UINT8: np.dtype(np.uint8),
    protos.DT_INT32: np.dtype(np.int32),
}
_DTYPES = {dtype: code for code, dtype in _NUMPY.items()}


class ModelSpec(msgspec.Struct, frozen=True):
    """The model to call. ``version`` or ``label`` selects a version; without them, the latest is used."""

    name: str
    version: int | None = None
    label: str = ""

    def fill(self, message: Any) -> None:
        """Write this to a ModelSpec message."""
        message.name = self.name
        if self.version is not None:
            message.version.value = self.version
        elif self.label:
            message.version_label = self.label


def encode_request(model: ModelSpec, signature: str, inputs: Inputs, outputs: tuple[str, ...] = ()) -> bytes:
    """Return the bytes of a PredictRequest. ``outputs``: names of the requested tensors, () for all."""
    request = protos.PredictRequest(output_filter=outputs)
    model.fill(request.model_spec)
    request.model_spec.signature_name = signature
    parts: list[memoryview | bytes] = [request.SerializeToString()]
    for name, value in inputs.items():
        if isinstance(value, bytes):
            parts += [_input_head(name, protos.DT_STRING, (1,), STRING_VAL, len(value)), value]
        else:
            content = np.ascontiguousarray(value, value.dtype.newbyteorder("<")).reshape(-1).view(np.uint8).data
            head = _input_head(name, _DTYPES[value.dtype], value.shape, TENSOR_CONTENT, len(content))
            parts += [head, content]
    return b"".join(parts)


class PlacedImage:
    """A PredictRequest whose last input, the int8 image ``name`` [1, h, w, 3], is written into its bytes.

    ``rest``: the bytes of the request without it. BytesIO lends its memory, and then hands it out as bytes, without a
    copy. It takes no more than it needs: what would be cut off splits the heap, so that large blocks find no place.
    """

    def __init__(self, rest: bytes, name: str, size_hw: Size) -> None:
        self._shape = 1, *size_hw, 3
        size = math.prod(self._shape)
        self._request = io.BytesIO()
        self._request.write(rest)
        self._request.write(_input_head(name, protos.DT_INT8, self._shape, TENSOR_CONTENT, size))
        self._start = self._request.tell()
        self._request.seek(size - 1, io.SEEK_CUR)
        self._request.write(b"\0")

    @property
    def codes(self) -> npt.NDArray[np.int8]:
        """The memory of the image, int8 [1, h, w, 3], to be filled."""
        return np.frombuffer(self._request.getbuffer(), np.int8, offset=self._start).reshape(self._shape)

    def to_bytes(self) -> bytes:
        """Return the request. Raises BufferError if an array still refers to ``codes``."""
        self._request.truncate()
        return self._request.getvalue()


def _input_head(name: str, dtype: int, shape: tuple[int, ...], field: int, size: int) -> bytes:
    """Return the bytes of an input in front of its values: ``size`` bytes in ``field`` of a TensorProto."""
    tensor = protos.TensorProto(dtype=dtype)
    for side in shape:
        tensor.tensor_shape.dim.add(size=side)
    key, head = name.encode(), bytes(tensor.SerializeToString()) + varint.header(field, size)
    entry = varint.header(KEY, len(key)) + key + varint.header(VALUE, len(head) + size) + head
    return varint.header(INPUTS, len(entry) + size) + entry


def decode_response(response: bytes, expected: tuple[TensorSpec, ...], version: int | None = None) -> Prediction:
    """Return the ``expected`` outputs of a PredictResponse.

    Raises VersionChanged if the model version is not ``version``; None accepts any. Raises ContractViolation if the
    bytes are no PredictResponse, or a tensor is missing or has another dtype, shape or length.
    """
    message = _parse(response)
    answered = message.model_spec.version.value
    if version not in (None, answered):
        raise VersionChanged(f"model version {version} must answer, got version {answered}", answered)
    outputs = {}
    for spec in expected:
        if spec.name not in message.outputs:
            raise ContractViolation(f"{spec}, got only {', '.join(sorted(message.outputs)) or 'no outputs'}")
        outputs[spec.name] = _decode_tensor(message.outputs[spec.name], spec, response)
    return Prediction(outputs, answered, down_bytes=len(response))


def decode_string(response: bytes, name: str) -> tuple[bytes, int]:
    """Return the first string of output ``name``, string [n] with n > 0, and the model version."""
    message = _parse(response)
    tensor = message.outputs.get(name)
    count = math.prod(dim.size for dim in tensor.tensor_shape.dim) if tensor is not None else 0
    if tensor is None or tensor.dtype != protos.DT_STRING or count < 1:
        raise ContractViolation(f"{name} must be a non-empty string [n], got {_dtype_and_shape(tensor)}")
    text = bytes(tensor.string_val[0]) if tensor.string_val else _first_string(tensor.tensor_content, count)
    if text is None:
        raise ContractViolation(f"{name} must be {count} strings, got {_dtype_and_shape(tensor)} without them")
    return text, message.model_spec.version.value


def _first_string(content: bytes, count: int) -> bytes | None:
    """Return the first of ``count`` strings in ``tensor_content``: all lengths as varints, then all bytes."""
    data = np.frombuffer(content, np.uint8)
    ends = np.flatnonzero(data < 0x80)[:count]
    if len(ends) < count or ends[0] >= varint.MAX_BYTES:
        return None
    length = sum(int(byte & 0x7F) << (7 * place) for place, byte in enumerate(data[: ends[0] + 1]))
    start = int(ends[-1]) + 1
    return content[start : start + length] if start + length <= len(content) else None


def _parse(response: bytes) -> Any:
    try:
        return protos.RawPredictResponse.FromString(response)
    except DecodeError as error:
        raise ContractViolation(f"the answer must be a PredictResponse, got {len(response)} other bytes") from error


def _decode_tensor(tensor: Any, spec: TensorSpec, response: bytes) -> Array:
    """Return a tensor as an array. Raises ContractViolation if it does not match ``spec``."""
    shape = tuple(dim.size for dim in tensor.tensor_shape.dim)
    dtype = _NUMPY.get(tensor.dtype)
    fits = len(shape) == len(spec.shape) and all(w in (None, s) for w, s in zip(spec.shape, shape, strict=True))
    if (
        dtype is None
        or dtype != np.dtype(spec.dtype)
        or not fits
        or tensor.tensor_shape.unknown_rank
        or min(shape, default=0) < 0
    ):
        raise ContractViolation(f"{spec}, got {_dtype_and_shape(tensor)}")
    count = math.prod(shape)
    values = _packed_values(tensor, dtype, count)
    if values is None or (len(values) != count and not tensor.tensor_content):
        values = _values_by_protobuf(response, spec.name, dtype)
    if values is None or len(values) != count:
        got = "values out of range" if values is None else f"{len(values)} values"
        raise ContractViolation(f"{spec}, got {_dtype_and_shape(tensor)} with {got}")
    shaped: Array = values.reshape(shape)
    return shaped


def _packed_values(tensor: Any, dtype: np.dtype[Any], count: int) -> Array | None:
    """Return the tensor's values [n] without parsing them, or None if they need a parser."""
    if tensor.tensor_content:
        if len(tensor.tensor_content) % dtype.itemsize:
            return np.zeros(0, dtype)
        return np.frombuffer(tensor.tensor_content, dtype.newbyteorder("<"))
    packed = tensor.float_val if dtype == np.float32 else tensor.int_val
    run = packed[0] if len(packed) == 1 else b"".join(packed)
    if not run:
        return None if count else np.zeros(0, dtype)
    if dtype == np.float32:
        return np.frombuffer(run, "<f4") if len(run) % 4 == 0 else None
    return varint.decode_int8(run) if dtype == np.int8 else None


def _values_by_protobuf(response: bytes, name: str, dtype: np.dtype[Any]) -> Array | None:
    """Return the values [n] that protobuf parses (unpacked fields, odd varints), None if one is out of range."""
    try:
        tensor = protos.PredictResponse.FromString(response).outputs[name]
    except DecodeError as error:
        raise ContractViolation(f"the answer must be a PredictResponse, got a broken {name}") from error
    if dtype == np.float32:
        return np.array(tensor.float_val, np.float32)
    wide = np.array(tensor.int_val, np.int64)
    bounds = np.iinfo(dtype)
    return wide.astype(dtype) if ((wide >= bounds.min) & (wide <= bounds.max)).all() else None


def _dtype_and_shape(tensor: Any) -> str:
    if tensor is None:
        return "none of that name"
    return f"{protos.dtype_name(tensor.dtype)} [{', '.join(str(dim.size) for dim in tensor.tensor_shape.dim)}]"
