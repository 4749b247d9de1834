"""Every RPC method by its path: a function from request bytes to response bytes. Each may raise ServingError."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

from google.protobuf.message import DecodeError, Message
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    predict_pb2,
)

from deploy.model_server.errors import Code, ServingError
from deploy.model_server.predict import predict
from deploy.model_server.servable import Servable
from deploy.model_server.versions import ModelVersions

Method = Callable[[bytes], bytes]
_SIGNATURE_DEF = "signature_def"


def methods(models: Mapping[str, ModelVersions], *, as_content: bool) -> dict[str, Method]:
    """Return the methods of this server by gRPC path."""

    def answer_predict(serialised: bytes) -> bytes:
        request = _parse(predict_pb2.PredictRequest, serialised)
        _check_spec(request)
        with _use(models, request.model_spec) as (version, servable):
            return predict(request, version, servable, as_content=as_content)

    return {
        "/tensorflow.serving.PredictionService/Predict": answer_predict,
        "/tensorflow.serving.PredictionService/GetModelMetadata": lambda serialised: _metadata(models, serialised),
        "/tensorflow.serving.ModelService/GetModelStatus": lambda serialised: _status(models, serialised),
    }


def _metadata(models: Mapping[str, ModelVersions], serialised: bytes) -> bytes:
    request = _parse(get_model_metadata_pb2.GetModelMetadataRequest, serialised)
    _check_has_spec(request)
    if not request.metadata_field:
        raise ServingError(Code.INVALID_ARGUMENT, "GetModelMetadataRequest must specify at least one metadata_field")
    for name in request.metadata_field:
        if name != _SIGNATURE_DEF:
            raise ServingError(Code.INVALID_ARGUMENT, f"Metadata field {name} is not supported")
    _check_spec(request)
    response = get_model_metadata_pb2.GetModelMetadataResponse()
    with _use(models, request.model_spec) as (version, servable):
        signatures = get_model_metadata_pb2.SignatureDefMap(signature_def=servable.signatures)
    response.model_spec.name = request.model_spec.name
    response.model_spec.version.value = version
    response.metadata[_SIGNATURE_DEF].Pack(signatures)
    return bytes(response.SerializeToString())


def _status(models: Mapping[str, ModelVersions], serialised: bytes) -> bytes:
    """Answer for one version or for all; ignore labels, as TensorFlow Serving does."""
    request = _parse(get_model_status_pb2.GetModelStatusRequest, serialised)
    _check_has_spec(request)
    spec = request.model_spec
    asked = spec.version.value if spec.HasField("version") else None
    statuses = models[spec.name].statuses() if spec.name in models else []
    chosen = [status for status in statuses if asked in (None, status.version)]
    if not chosen:
        what = "any versions" if asked is None else f"version {asked}"
        raise ServingError(Code.NOT_FOUND, f"Could not find {what} of model {spec.name}")
    response = get_model_status_pb2.GetModelStatusResponse()
    for status in chosen:
        entry = response.model_version_status.add(version=status.version, state=int(status.state))
        entry.status.error_code = int(status.code)
        entry.status.error_message = status.message
    return bytes(response.SerializeToString())


def _use(
    models: Mapping[str, ModelVersions], spec: model_pb2.ModelSpec
) -> AbstractContextManager[tuple[int, Servable]]:
    """Borrow the version that ``spec`` requests: by number, by label, or the latest."""
    model = models.get(spec.name)
    version = spec.version.value if spec.HasField("version") else None
    if spec.HasField("version_label"):
        labels: Mapping[str, int] = model.model.labels if model else {}
        if spec.version_label not in labels:
            raise ServingError(Code.INVALID_ARGUMENT, f"Unrecognized servable version label: {spec.version_label}")
        version = labels[spec.version_label]
    if model is None:
        wanted = f"Latest({spec.name})" if version is None else f"Specific({spec.name}, {version})"
        raise ServingError(Code.NOT_FOUND, f"Servable not found for request: {wanted}")
    return model.use(version)


def _parse(kind: type[Message], serialised: bytes) -> Any:
    message = kind()
    try:
        message.ParseFromString(serialised)
    except DecodeError as error:
        raise ServingError(Code.INTERNAL, "") from error  # gRPC's own answer, given before any service sees the bytes
    return message


def _check_has_spec(request: Message) -> None:
    if not request.HasField("model_spec"):
        raise ServingError(Code.INVALID_ARGUMENT, "Missing ModelSpec")


def _check_spec(request: predict_pb2.PredictRequest | get_model_metadata_pb2.GetModelMetadataRequest) -> None:
    _check_has_spec(request)
    if not request.model_spec.name:
        raise ServingError(Code.INVALID_ARGUMENT, "ModelSpec has no name specified.")
