"""A small TensorFlow Serving for tests: a real gRPC server whose answers a test sets."""

import threading
import time
from concurrent import futures
from contextlib import contextmanager

import grpc
import numpy as np

from handler.backend import protos
from handler.backend.client import METADATA, PREDICT, STATUS
from handler.model.contract import (
    CONTRACT_OUTPUT,
    CONTRACT_SIGNATURE,
    ImageInput,
    MaskOutput,
    ModelContract,
    Resize,
)

INT8 = ModelContract(
    image=ImageInput(dtype="int8", zero_point=-128, padded=False),
    masks=MaskOutput(dtype="int8", scale=1 / 127, per_class=False),
    resize=Resize(mode="pad64", min_dim=0, max_dim=512),
    labels={1: "circle", 2: "square"},
    source="test",
)
DTYPES = {"int8": protos.DT_INT8, "float32": protos.DT_FLOAT, "uint8": protos.DT_UINT8}


def fill(tensor, array):
    tensor.dtype = DTYPES[array.dtype.name]
    for size in array.shape:
        tensor.tensor_shape.dim.add(size=size)
    values = tensor.float_val if array.dtype == np.float32 else tensor.int_val
    values.extend(array.ravel().tolist())


def two_objects(frame_hw=(64, 64)):
    """One circle-ish square at pixels [8, 24) x [16, 48), score .9, and one below it, score .95."""
    high, wide = frame_hw[0] - 1, frame_hw[1] - 1
    detections = np.zeros((1, 5, 6), np.float32)
    detections[0, 0] = [8 / high, 16 / wide, 23 / high, 47 / wide, 1, 0.9]
    detections[0, 1] = [32 / high, 0, 39 / high, 7 / wide, 2, 0.95]
    masks = np.full((1, 5, 4, 4), -5, np.int8)
    masks[0, 0] = 127
    masks[0, 1, :, :2] = 127
    return {"mrcnn_detection": detections, "mrcnn_mask": masks}


class Backend:
    """Answers by fields that tests change; ``errors`` are (code, details) used up first by Predict."""

    def __init__(self):
        self.contract = INT8.to_json()
        self.version = 1
        self.outputs = two_objects()
        self.see = None  # a function from the image tensor int8 [1, h, w, 3] to outputs, where they depend on it
        self.errors = []
        self.calls = []
        self.signatures = {}
        self.available = True
        self.own = None  # the one signature that it serves beside its contract's, None for any
        self.raw_status = None
        self.takes_s = 0.0  # of each image
        self.refused = 0  # calls, because all places were taken
        self.lock = threading.Lock()

    def refuse(self):
        with self.lock:
            self.refused += 1

    def predict(self, request, context):
        with self.lock:
            self.calls.append(request.model_spec.signature_name)
            if self.errors and request.model_spec.signature_name != CONTRACT_SIGNATURE:
                context.abort(*self.errors.pop(0))
        self._check_version(request, context)
        response = protos.PredictResponse()
        response.model_spec.version.value = self.version
        if request.model_spec.signature_name == CONTRACT_SIGNATURE:
            if self.contract is None:
                details = f'Serving signature key "{CONTRACT_SIGNATURE}" not found.'
                context.abort(grpc.StatusCode.FAILED_PRECONDITION, details)
            tensor = response.outputs[CONTRACT_OUTPUT]
            tensor.dtype = protos.DT_STRING
            tensor.tensor_shape.dim.add(size=1)
            tensor.string_val.append(self.contract.encode())
            return response
        if self.own not in (None, request.model_spec.signature_name):
            details = f'Serving signature key "{request.model_spec.signature_name}" not found.'
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, details)
        self.request = request
        time.sleep(self.takes_s)
        for name, array in (self.see(image(request)) if self.see else self.outputs).items():
            fill(response.outputs[name], array)
        return response

    def _check_version(self, request, context):
        spec = request.model_spec
        if spec.HasField("version") and spec.version.value != self.version:
            details = f"Servable not found for request: Specific({spec.name}, {spec.version.value})"
            context.abort(grpc.StatusCode.NOT_FOUND, details)

    def metadata(self, request, context):
        self.calls.append("metadata")
        self._check_version(request, context)
        response = protos.GetModelMetadataResponse()
        response.model_spec.version.value = self.version
        signatures = protos.SignatureDefMap()
        for name, definition in self.signatures.items():
            signatures.signature_def[name].CopyFrom(definition)
        response.metadata["signature_def"].Pack(signatures)
        return response

    def status(self, request, context):
        if self.raw_status is not None:
            return self.raw_status
        response = protos.GetModelStatusResponse()
        state = protos.ModelVersionStatus.AVAILABLE if self.available else protos.ModelVersionStatus.LOADING
        response.model_version_status.add(version=self.version, state=state)
        return response


def image(request):
    tensor = request.inputs["input_image"]
    return np.frombuffer(tensor.tensor_content, np.int8).reshape([dim.size for dim in tensor.tensor_shape.dim])


def as_bytes(answer):
    return answer if isinstance(answer, bytes) else answer.SerializeToString()


def refusing(answer, places, refused):
    """Return ``answer`` as TensorFlow Serving gives it while one of the semaphore's places is free."""

    def call(request, context):
        if not places.acquire(blocking=False):
            refused()
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "Server Threadpool Exhausted")
        try:
            return answer(request, context)
        finally:
            places.release()

    return call


@contextmanager
def serve(backend, port=0, places=32):
    """Yield the address of a server that answers as ``backend`` says, ``places`` calls at once."""
    free = threading.Semaphore(places)
    routes = {
        PREDICT: (backend.predict, protos.PredictRequest),
        METADATA: (backend.metadata, protos.GetModelMetadataRequest),
        STATUS: (backend.status, protos.GetModelStatusRequest),
    }
    options = [("grpc.max_receive_message_length", -1), ("grpc.so_reuseport", 0)]
    server = grpc.server(futures.ThreadPoolExecutor(places + 1), options=options)
    for service in {path.split("/")[1] for path in routes}:
        methods = {
            path.split("/")[2]: grpc.unary_unary_rpc_method_handler(
                refusing(answer, free, backend.refuse),
                request_deserializer=kind.FromString,
                response_serializer=as_bytes,
            )
            for path, (answer, kind) in routes.items()
            if path.split("/")[1] == service
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, methods),))
    port = server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()
