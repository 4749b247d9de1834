"""PredictRequest -> PredictResponse bytes, with TensorFlow Serving's order of checks and its wording.

Source of both: tensorflow_serving ``servables/tensorflow/predict_util.cc`` and recorded answers. The reply is assembled
as bytes: a message object would parse and serialise millions of mask values once more.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy.typing as npt
from tensorflow.core.framework import tensor_pb2
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import model_pb2, predict_pb2

from deploy.model_server import tensors, varints
from deploy.model_server.errors import Code, ServingError
from deploy.model_server.servable import Servable

DEFAULT_SIGNATURE = "serving_default"
_ENTRY_FIELD, _SPEC_FIELD = 1, 2  # PredictResponse.outputs and .model_spec
_KEY_FIELD, _VALUE_FIELD = 1, 2  # of every map entry

Array = npt.NDArray[Any]


def predict(
    request: predict_pb2.PredictRequest, version: int, servable: Servable, *, as_content: bool = False
) -> bytes:
    """Answer ``request`` with ``servable``, version ``version`` of the named model. Raises ServingError."""
    signature_name = request.model_spec.signature_name or DEFAULT_SIGNATURE
    signature = servable.signatures.get(signature_name)
    if signature is None:
        raise _failed_precondition(f'Serving signature key "{signature_name}" not found.')
    feeds, types = _feeds(request.inputs, signature)
    aliases = _aliases(request.output_filter, signature)
    _check_types(types, signature)
    fetches = list(dict.fromkeys(signature.outputs[alias].name for alias in aliases))
    values = dict(zip(fetches, servable.run(feeds, fetches), strict=True))
    outputs = {alias: values[signature.outputs[alias].name] for alias in aliases}
    spec = model_pb2.ModelSpec(name=request.model_spec.name, signature_name=signature_name)
    spec.version.value = version
    return encode_response(outputs, spec, as_content=as_content)


def encode_response(outputs: Mapping[str, Array], spec: model_pb2.ModelSpec, *, as_content: bool) -> bytes:
    """Serialise a PredictResponse: every output under its alias, and the model's name and version."""
    parts: list[bytes] = []
    for alias, array in outputs.items():
        key = varints.delimited(_KEY_FIELD, alias.encode())
        value = varints.delimited(_VALUE_FIELD, *tensors.encode(array, as_content=as_content))
        parts += varints.delimited(_ENTRY_FIELD, *key, *value)
    parts += varints.delimited(_SPEC_FIELD, spec.SerializeToString())
    return b"".join(parts)


def _feeds(
    inputs: Mapping[str, tensor_pb2.TensorProto], signature: meta_graph_pb2.SignatureDef
) -> tuple[dict[str, Array], dict[str, int]]:
    """Return the request's tensors, or the signature's defaults, and their DataTypes, by the graph's tensor names.

    A tensor of a type that neither this server nor the signature's input has is not among the tensors.
    """
    required = set(signature.inputs) - set(signature.defaults)
    if len(inputs) > len(signature.inputs) or len(inputs) < len(required):
        given, expected = set(inputs), set(signature.inputs)
        raise _invalid_argument(
            f"input size does not match signature: {len(given)}!={len(expected)} len({_braced(given)}) !="
            f" len({_braced(expected)}). Sent extra: {_braced(given - expected)}."
            f" Missing but required: {_braced(required - given)}."
        )
    feeds, types = {}, {}
    for alias, info in sorted(signature.inputs.items()):
        proto = inputs[alias] if alias in inputs else signature.defaults.get(alias)
        if proto is None:
            raise _invalid_argument(
                f"Signature input alias: {alias}(feed name: {info.name}) not found in request and no default value"
                f" provided. Inputs expected to be in the request {_braced(inputs)}, or default input alias set:"
                f" {','.join(sorted(signature.defaults))}"
            )
        types[info.name] = proto.dtype
        try:
            if proto.dtype in tensors.OTHER_TYPES and proto.dtype != info.dtype:
                tensors.read_shape(proto)
            else:
                feeds[info.name] = tensors.decode(proto)
        except tensors.TensorParseError as error:
            raise _invalid_argument(f"tensor parsing error: {alias}") from error
    return feeds, types


def _aliases(output_filter: Iterable[str], signature: meta_graph_pb2.SignatureDef) -> list[str]:
    """Return the requested outputs, or all of them."""
    aliases: list[str] = []
    for alias in output_filter:
        if alias not in signature.outputs:
            raise _invalid_argument(
                f"output tensor alias not found in signature: {alias}"
                f" Outputs expected to be in the set {_braced(signature.outputs)}."
            )
        if alias in aliases:
            raise _invalid_argument(f"duplicate output tensor alias: {alias}")
        aliases.append(alias)
    return aliases or sorted(signature.outputs)


def _check_types(types: Mapping[str, int], signature: meta_graph_pb2.SignatureDef) -> None:
    """Raise ServingError as the C++ session does, whose arguments are numbered by tensor name; Python's would cast."""
    expected = {info.name: info.dtype for info in signature.inputs.values()}
    for position, name in enumerate(sorted(types)):
        given = types[name]
        if given != expected[name]:
            raise _invalid_argument(
                f"Expects arg[{position}] to be {tensors.type_name(expected[name])}"
                f" but {tensors.type_name(given)} is provided"
            )


def _braced(names: Iterable[str]) -> str:
    return f"{{{','.join(sorted(names))}}}"


def _invalid_argument(message: str) -> ServingError:
    return ServingError(Code.INVALID_ARGUMENT, message)


def _failed_precondition(message: str) -> ServingError:
    return ServingError(Code.FAILED_PRECONDITION, message)
