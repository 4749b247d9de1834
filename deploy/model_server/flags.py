"""The command line: TensorFlow Serving's flag names and spellings <-> one frozen value.

``--flag=value`` only; a boolean may also stand alone (``--flag``). Anything else is printed and ignored, as TensorFlow
Serving does. Source of names and defaults: tensorflow_serving ``model_servers/main.cc``.
"""

import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import Any

import msgspec

from deploy.model_server.errors import StartError


class FlagError(StartError):
    """A wrong command line; the text names the flag and the value."""


def _flag(default: Any, doc: str) -> Any:
    return field(default=default, metadata={"doc": doc})


@dataclass(frozen=True)
class Flags:
    """Every setting of the server. Raises FlagError for a value out of range."""

    port: int = _flag(8500, "TCP port for gRPC; 0 picks a free one, or none if a socket path is given")
    grpc_bind_address: str = _flag("127.0.0.1", "address to listen on; only in this stand-in")
    grpc_socket_path: str = _flag("", "UNIX socket to listen on as well")
    model_name: str = _flag("default", "name of the one model; ignored with --model_config_file")
    model_base_path: str = _flag("", "folder of numbered version folders; ignored with --model_config_file")
    model_config_file: str = _flag("", "text ModelServerConfig with several models")
    allow_version_labels_for_unavailable_models: bool = _flag(False, "accept version_labels at the start")
    ssl_config_file: str = _flag("", "text SSLConfig: serve gRPC over TLS, with client certificates if it says so")
    enable_serialization_as_tensor_content: bool = _flag(False, "answer with tensor_content, not *_val fields")
    enable_grpc_healthcheck_service: bool = _flag(False, "serve grpc.health.v1.Health")
    file_system_poll_wait_seconds: float = _flag(1.0, "pause between two looks at the base path; 0 looks once")
    max_num_load_retries: int = _flag(5, "further attempts at a version that failed to load")
    load_retry_interval_micros: int = _flag(60_000_000, "pause between these attempts")
    enable_batching: bool = _flag(False, "run requests of one signature together")
    batching_parameters_file: str = _flag("", "text BatchingParameters; with --enable_batching")
    grpc_channel_arguments: str = _flag("", "key=value,key=value for the gRPC server")
    grpc_max_threads: int = _flag(
        4 * (os.cpu_count() or 1), "one more than the calls answered at once; others are refused"
    )

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise FlagError(f"--port must be 0 to 65535, got {self.port}")
        for name, least in (
            ("grpc_max_threads", 1),
            ("max_num_load_retries", 0),
            ("load_retry_interval_micros", 0),
            ("file_system_poll_wait_seconds", 0),
        ):
            if getattr(self, name) < least:
                raise FlagError(f"--{name} must be at least {least}, got {getattr(self, name)}")
        if self.batching_parameters_file and not self.enable_batching:
            raise FlagError("--batching_parameters_file must come with --enable_batching, got it alone")
        self.channel_arguments()

    def channel_arguments(self) -> tuple[tuple[str, int | str], ...]:
        """Split ``--grpc_channel_arguments`` into gRPC options: whole numbers as int, all else as str."""
        pairs = [part.partition("=") for part in self.grpc_channel_arguments.split(",") if part]
        for key, equals, value in pairs:
            if not (key and equals and value):
                raise FlagError(f"--grpc_channel_arguments must be key=value,key=value, got {key}{equals}{value}")
        return tuple((key, _int_or_text(value)) for key, _, value in pairs)


def parse(arguments: Iterable[str]) -> Flags:
    """Read a command line without the program's name; of a repeated flag the last one counts.

    Raises FlagError for a value that its flag does not take.
    """
    kinds = {entry.name: type(entry.default) for entry in fields(Flags)}
    values: dict[str, Any] = {}
    for argument in arguments:
        name, equals, text = argument.removeprefix("--").partition("=")
        if not argument.startswith("--") or name not in kinds:
            print(f"unknown argument: {argument}; flags are written --name=value, see --help", file=sys.stderr)
            continue
        kind = kinds[name]
        if not equals and kind is not bool:
            raise FlagError(f"--{name} must be written --{name}=value, got no value")
        try:
            values[name] = msgspec.convert(text if equals else "true", kind, strict=False)
        except msgspec.ValidationError as error:
            expected = "true or false" if kind is bool else "a number"
            raise FlagError(f"--{name} must be {expected}, got {text!r}") from error
    flags = Flags(**values)
    if not flags.model_base_path and not flags.model_config_file:
        raise FlagError("--model_base_path or --model_config_file must be given, got neither")
    return flags


def usage() -> str:
    """Return the text of ``--help``: every flag with its default."""
    lines = [f"  --{entry.name}={entry.default}\n        {entry.metadata['doc']}" for entry in fields(Flags)]
    return "\n".join(["usage: python -m deploy.model_server --model_base_path=FOLDER [--flag=value ...]", *lines])


def _int_or_text(text: str) -> int | str:
    try:
        return int(text)
    except ValueError:
        return text
