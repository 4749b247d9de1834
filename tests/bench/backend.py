"""A TensorFlow Serving without a model: answers what was recorded, over gRPC and REST; told how many objects.

`python -m tests.bench.backend FOLDER GRPC_PORT REST_PORT`. The first field of a request is enough to answer it, so that
next to nothing of its time is in what is measured. A JPEG is decoded, resized and turned as the graph of an int8 export
does it, and the time of that is kept.
"""

import functools
import json
import statistics
import sys
import threading
import time
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import grpc
import numpy as np

from handler.backend import protos
from handler.backend.client import METADATA, PREDICT, STATUS
from handler.model.contract import CONTRACT_OUTPUT, CONTRACT_SIGNATURE, JpegInput, ModelContract

COUNT = "/bench.Backend/Count"
JPEG_COST = "/bench.Backend/JpegCost"
JPEG = JpegInput()
THREADS = 16


class Recorded:
    """The recorded answers, and how many objects the next ones have."""

    def __init__(self, folder):
        self.files = {path.name: path.read_bytes() for path in folder.iterdir()}
        self.count = "100"
        contract = protos.PredictResponse()
        contract.model_spec.version.value = 1
        tensor = contract.outputs[CONTRACT_OUTPUT]
        tensor.dtype = protos.DT_STRING
        tensor.tensor_shape.dim.add(size=1)
        tensor.string_val.append(self.files["contract.json"])
        self.contract = contract.SerializeToString()
        self.resize = ModelContract.from_json(self.files["contract.json"]).resize
        self.costs = []  # of each JPEG: seconds, and seconds of the processor

    def predict(self, request, context):
        head = memoryview(request)[:256]
        spec = protos.PredictRequest().model_spec.FromString(bytes(head[2 : 2 + head[1]]))
        if spec.signature_name == CONTRACT_SIGNATURE:
            if spec.name == "int8":
                return self.contract
            context.abort(
                grpc.StatusCode.FAILED_PRECONDITION, f'Serving signature key "{CONTRACT_SIGNATURE}" not found.'
            )
        if spec.signature_name == JPEG.signature:
            self.decode(protos.PredictRequest.FromString(request))
        return self.files[f"{spec.name}-{self.count}.pb"]

    @functools.cached_property
    def graph(self):
        import tensorflow as tf  # noqa: PLC0415 - seconds, which no other figure needs

        from deploy.export import photograph  # noqa: PLC0415

        signature = [tf.TensorSpec([], tf.string), tf.TensorSpec([], tf.int32)]
        return tf.function(
            lambda data, orientation: photograph.codes(data, orientation, self.resize), input_signature=signature
        )

    def decode(self, request):
        """Do what the graph of an int8 export does with a JPEG before it runs the model."""
        started_s, started_cpu_s = time.perf_counter(), time.process_time()
        data, orientation = (request.inputs[name] for name in (JPEG.image, JPEG.orientation))
        (turned,) = np.frombuffer(orientation.tensor_content, "<i4")
        self.graph(data.string_val[0], turned)
        self.costs.append((time.perf_counter() - started_s, time.process_time() - started_cpu_s))

    def jpeg_cost(self, request, context):
        """Return the median costs of the JPEGs since the last call, as JSON: milliseconds by kind of time, if any."""
        costs, self.costs = self.costs, []
        if not costs:
            return b"{}"
        wall_ms, cpu_ms = (1000 * statistics.median(times) for times in zip(*costs, strict=True))
        return json.dumps({"wall_ms": wall_ms, "cpu_ms": cpu_ms}).encode()

    def metadata(self, request, context):
        name = protos.GetModelMetadataRequest.FromString(request).model_spec.name
        return self.files["metadata-float32.pb" if name == "float32" else "metadata.pb"]

    def status(self, request, context):
        answer = protos.GetModelStatusResponse()
        answer.model_version_status.add(version=1, state=protos.ModelVersionStatus.AVAILABLE)
        return answer.SerializeToString()

    def set_count(self, request, context):
        self.count = request.decode()
        return b""


def serve_grpc(recorded, port):
    routes = {
        PREDICT: recorded.predict,
        METADATA: recorded.metadata,
        STATUS: recorded.status,
        COUNT: recorded.set_count,
        JPEG_COST: recorded.jpeg_cost,
    }
    server = grpc.server(
        futures.ThreadPoolExecutor(THREADS),
        options=[("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)],
    )
    for service in {path.split("/")[1] for path in routes}:
        methods = {
            path.split("/")[2]: grpc.unary_unary_rpc_method_handler(answer)  # bytes to bytes
            for path, answer in routes.items()
            if path.split("/")[1] == service
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, methods),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    return server


def serve_rest(recorded, port):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            left = int(self.headers["Content-Length"])
            while left:
                left -= len(self.rfile.read(min(left, 1 << 20)))
            answer = recorded.files[f"rest-{recorded.count}.json"]
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *args):
            pass

    threading.Thread(target=ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever, daemon=True).start()


if __name__ == "__main__":
    answers = Recorded(Path(sys.argv[1]))
    serve_rest(answers, int(sys.argv[3]))
    serve_grpc(answers, int(sys.argv[2])).wait_for_termination()
