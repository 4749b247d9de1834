"""The gRPC server and the models' watchers, as one resource."""

import concurrent.futures
import functools
import logging
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc
from google.protobuf.message import DecodeError
from grpc_health.v1 import health, health_pb2

from deploy.model_server import batching, ssl_config
from deploy.model_server.errors import Code, RefusedError, ServingError, StartError, truncate
from deploy.model_server.flags import Flags
from deploy.model_server.models import Model, models_from_flags
from deploy.model_server.servable import Servable
from deploy.model_server.services import Method, methods
from deploy.model_server.versions import ModelVersions, Timing, VersionStatus

_log = logging.getLogger(__name__)
_CODES = {code.value[0]: code for code in grpc.StatusCode}
_STOP_GRACE_S = 1.0
_BUSY = "Server Threadpool Exhausted"
_HEALTH = "grpc.health.v1.Health"
_HEALTH_SERVICES = ("", "ModelService", "PredictionService")


class ModelServer:
    """Serves the models of ``flags``: ``start`` loads them, then listens; ``stop`` ends both.

    ``with ModelServer(Flags(port=0, model_base_path=...)) as server:`` starts and stops one. ``server.target`` is the
    address for a channel. ``models`` replaces those of the flags.
    """

    def __init__(self, flags: Flags, models: Sequence[Model] | None = None) -> None:
        self.target = ""  # host:port or unix:path, known once the server listens
        self._flags = flags
        timing = Timing(
            flags.file_system_poll_wait_seconds, flags.max_num_load_retries, flags.load_retry_interval_micros / 1e6
        )
        parameters = batching.Parameters.from_flags(flags)
        self._scheduler = batching.Scheduler(parameters) if parameters else None
        load = (
            functools.partial(batching.load_batching, scheduler=self._scheduler) if self._scheduler else Servable.load
        )
        self._models = {
            model.name: ModelVersions(model, timing, load)
            for model in (models_from_flags(flags) if models is None else models)
        }
        self._grpc: grpc.Server | None = None

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self, cancel: threading.Event | None = None) -> None:
        """Load every model, then listen. Wait for base paths to fill; return without listening once ``cancel`` is set.

        Raises StartError if a first version fails to load, or if the server cannot listen on an address.
        """
        for model in self._models.values():
            model.start()
        for model in self._models.values():
            while not model.settled.wait(0.05):
                if cancel is not None and cancel.is_set():
                    return
        self._check_loaded()
        self._listen()

    def stop(self) -> None:
        """Refuse new calls, give calls in flight a second, then unload every version."""
        if self._grpc is not None:
            self._grpc.stop(_STOP_GRACE_S).wait()
            self._grpc = None
        for model in self._models.values():
            model.stop()
        if self._scheduler is not None:
            self._scheduler.close()

    def statuses(self, model_name: str) -> list[VersionStatus]:
        """Return every version of the model ever seen, newest first."""
        return self._models[model_name].statuses()

    def _check_loaded(self) -> None:
        failures = [
            f"{{{{name: {name} version: {status.version}}} due to error: {status.code.name}: {status.message}}}, "
            for name, model in self._models.items()
            for status in model.statuses()
            if status.code
        ]
        if failures:
            raise RefusedError(
                Code.UNKNOWN, f"{len(failures)} servable(s) did not become available: {{{''.join(failures)}}}"
            )

    def _listen(self) -> None:
        flags = self._flags
        options = (
            ("grpc.max_receive_message_length", -1),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 0),  # a taken port is an error, not a share of its calls
            *flags.channel_arguments(),
        )
        # One thread more than calls are taken: it refuses the others at once, and answers health checks.
        pool = concurrent.futures.ThreadPoolExecutor(flags.grpc_max_threads, thread_name_prefix="grpc")
        server = grpc.server(pool, options=options)
        if flags.enable_grpc_healthcheck_service:
            _add_health(server)
        known = methods(self._models, as_content=flags.enable_serialization_as_tensor_content)
        server.add_generic_rpc_handlers((Router(known, flags.grpc_max_threads - 1),))
        try:
            if flags.grpc_socket_path:
                self.target = f"unix:{flags.grpc_socket_path}"
                server.add_insecure_port(self.target)
            if flags.port or not flags.grpc_socket_path:
                port = _add_port(server, _address(flags.grpc_bind_address, flags.port), flags.ssl_config_file)
                self.target = _address(flags.grpc_bind_address, port)
        except RuntimeError as error:
            raise StartError(f"cannot listen on {self.target or flags.grpc_bind_address}: {error}") from error
        server.start()
        self._grpc = server
        _log.info("serving %s over gRPC at %s", ", ".join(self._models), self.target)


class Router(grpc.GenericRpcHandler):  # grpc ships no types
    """Passes bytes to the method of the called path. Any other path is UNIMPLEMENTED, with an empty message.

    ``calls``: how many it takes at once. It refuses the others, as TensorFlow Serving does.
    """

    def __init__(self, known: Mapping[str, Method], calls: int) -> None:
        places = threading.Semaphore(calls)
        self._handlers = {path: _handler(method, places) for path, method in known.items()}
        self._unknown = grpc.stream_stream_rpc_method_handler(_unimplemented)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """Return the handler of one call."""
        return self._handlers.get(handler_call_details.method, self._unknown)


def _handler(method: Method, places: threading.Semaphore) -> Any:
    def call(serialised: bytes, context: grpc.ServicerContext) -> bytes | None:
        if not places.acquire(blocking=False):
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, _BUSY)
        try:
            return method(serialised)
        except ServingError as error:
            context.abort(_CODES[int(error.code)], truncate(error.message))
            return None  # abort raises
        finally:
            places.release()

    return grpc.unary_unary_rpc_method_handler(call)


def _unimplemented(_requests: Any, context: grpc.ServicerContext) -> Any:
    context.abort(grpc.StatusCode.UNIMPLEMENTED, "")


def _add_port(server: grpc.Server, address: str, ssl_config_file: str) -> int:
    if ssl_config_file:
        return int(server.add_secure_port(address, ssl_config.credentials(Path(ssl_config_file))))
    return int(server.add_insecure_port(address))


def _add_health(server: grpc.Server) -> None:
    """Serve Check in the words of the C++ server, and Watch as Python's."""
    servicer = health.HealthServicer()
    for name in _HEALTH_SERVICES:
        servicer.set(name, health_pb2.HealthCheckResponse.SERVING)
    handlers = {
        "Check": grpc.unary_unary_rpc_method_handler(_check_health),
        "Watch": grpc.unary_stream_rpc_method_handler(
            servicer.Watch,
            health_pb2.HealthCheckRequest.FromString,
            health_pb2.HealthCheckResponse.SerializeToString,
        ),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_HEALTH, handlers),))


def _check_health(serialised: bytes, context: grpc.ServicerContext) -> bytes:
    try:
        service = health_pb2.HealthCheckRequest.FromString(serialised).service
    except DecodeError:
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, "could not parse request")
    if service not in _HEALTH_SERVICES:
        context.abort(grpc.StatusCode.NOT_FOUND, "service name unknown")
    return bytes(health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING).SerializeToString())


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
