"""TensorFlow Serving's message types, without TensorFlow's runtime.

``import tensorflow_serving.apis.predict_pb2`` runs ``tensorflow/__init__.py``, which takes seconds and half a gigabyte.
The message modules need only protobuf, so an empty package replaces ``tensorflow`` during the import. Afterwards it is
removed, with the modules loaded through it. A later ``import tensorflow`` works as usual, and protobuf's descriptor
pool gives both sides the same types.

``RawPredictResponse`` reads the same bytes as ``PredictResponse``, but keeps packed values as bytes: on the wire, a
packed repeated field and a ``bytes`` field look alike. This saves one Python object for each of millions of values.
"""

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_PACKAGE = "tensorflow"


@contextmanager
def _bare_tensorflow() -> Iterator[None]:
    """Allow imports of ``tensorflow.*`` without running ``tensorflow/__init__.py``."""
    if _PACKAGE in sys.modules:
        yield
        return
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.submodule_search_locations is None:
        raise ModuleNotFoundError("the folder tensorflow with its message types must be on sys.path, found none")
    bare = ModuleType(_PACKAGE)
    bare.__path__ = list(spec.submodule_search_locations)
    sys.modules[_PACKAGE] = bare
    try:
        yield
    finally:
        for name in [name for name in sys.modules if name == _PACKAGE or name.startswith(f"{_PACKAGE}.")]:
            del sys.modules[name]


with _bare_tensorflow():
    _predict: Any = importlib.import_module("tensorflow_serving.apis.predict_pb2")
    _metadata: Any = importlib.import_module("tensorflow_serving.apis.get_model_metadata_pb2")
    _status: Any = importlib.import_module("tensorflow_serving.apis.get_model_status_pb2")
    _tensor: Any = importlib.import_module("tensorflow.core.framework.tensor_pb2")
    _types: Any = importlib.import_module("tensorflow.core.framework.types_pb2")
    _meta_graph: Any = importlib.import_module("tensorflow.core.protobuf.meta_graph_pb2")

PredictRequest: Any = _predict.PredictRequest
PredictResponse: Any = _predict.PredictResponse
GetModelMetadataRequest: Any = _metadata.GetModelMetadataRequest
GetModelMetadataResponse: Any = _metadata.GetModelMetadataResponse
SignatureDefMap: Any = _metadata.SignatureDefMap
GetModelStatusRequest: Any = _status.GetModelStatusRequest
GetModelStatusResponse: Any = _status.GetModelStatusResponse
ModelVersionStatus: Any = _status.ModelVersionStatus
SignatureDef: Any = _meta_graph.SignatureDef
TensorProto: Any = _tensor.TensorProto
DataType: Any = _types.DataType

DT_FLOAT: int = _types.DT_FLOAT
DT_UINT8: int = _types.DT_UINT8
DT_INT8: int = _types.DT_INT8
DT_INT32: int = _types.DT_INT32
DT_STRING: int = _types.DT_STRING


def dtype_name(code: int) -> str:
    """Return NumPy's name of a DataType, such as float32, or ``type N`` if it is unknown."""
    if code not in DataType.values():
        return f"type {code}"
    name: str = DataType.Name(code).removeprefix("DT_").lower()
    return {"float": "float32", "double": "float64"}.get(name, name)


def state_name(code: int) -> str:
    """Return the name of a model version's state, such as LOADING, or ``state N`` if it is unknown."""
    states = ModelVersionStatus.State
    return str(states.Name(code)) if code in states.values() else f"state {code}"


def _raw_predict_response() -> Any:
    """Return the message type. Field numbers: tensor.proto, tensor_shape.proto, model.proto, predict.proto."""
    kind = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="segment/raw_predict.proto", package="segment", syntax="proto3")

    def message(parent: Any, name: str, *fields: tuple[str, int, int, bool, str]) -> Any:
        added = parent.add(name=name)
        for field_name, number, field_type, repeated, type_name in fields:
            label = kind.LABEL_REPEATED if repeated else kind.LABEL_OPTIONAL
            field = added.field.add(name=field_name, number=number, type=field_type, label=label)
            if type_name:
                field.type_name = f".segment.{type_name}"
        return added

    message(file.message_type, "Dim", ("size", 1, kind.TYPE_INT64, False, ""))
    message(
        file.message_type,
        "Shape",
        ("dim", 2, kind.TYPE_MESSAGE, True, "Dim"),
        ("unknown_rank", 3, kind.TYPE_BOOL, False, ""),
    )
    message(
        file.message_type,
        "Tensor",
        ("dtype", 1, kind.TYPE_INT32, False, ""),
        ("tensor_shape", 2, kind.TYPE_MESSAGE, False, "Shape"),
        ("tensor_content", 4, kind.TYPE_BYTES, False, ""),
        ("float_val", 5, kind.TYPE_BYTES, True, ""),
        ("int_val", 7, kind.TYPE_BYTES, True, ""),
        ("string_val", 8, kind.TYPE_BYTES, True, ""),
    )
    message(file.message_type, "Version", ("value", 1, kind.TYPE_INT64, False, ""))
    message(
        file.message_type,
        "Spec",
        ("name", 1, kind.TYPE_STRING, False, ""),
        ("version", 2, kind.TYPE_MESSAGE, False, "Version"),
    )
    response = message(
        file.message_type,
        "RawPredictResponse",
        ("outputs", 1, kind.TYPE_MESSAGE, True, "RawPredictResponse.OutputsEntry"),
        ("model_spec", 2, kind.TYPE_MESSAGE, False, "Spec"),
    )
    entry = message(
        response.nested_type,
        "OutputsEntry",
        ("key", 1, kind.TYPE_STRING, False, ""),
        ("value", 2, kind.TYPE_MESSAGE, False, "Tensor"),
    )
    entry.options.map_entry = True
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("segment.RawPredictResponse"))


RawPredictResponse: Any = _raw_predict_response()
