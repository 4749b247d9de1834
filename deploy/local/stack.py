"""The whole service on one machine: the stand-in for TensorFlow Serving and the function in front of it."""

import argparse
import http.client
import json
import socket
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import MappingProxyType

from deploy.tools.ports import check_free
from deploy.tools.processes import Programs, RunError

HOST = "127.0.0.1"
START_S = 180.0  # loading TensorFlow and the models, on a slow machine
ANSWER_S = 120.0
THREADS = 16  # of the function: requests at once
GRPC_THREADS = 2 * THREADS  # of the model server, which refuses as many calls as it has threads


def check_port(port: int, variable: str) -> None:
    """Raise RunError, in one line that names ``variable``, if nothing can listen on ``port``."""
    try:
        check_free(HOST, port)
    except RunError as error:
        raise RunError(f"{error}; free it or choose another port with {variable}=...") from error


def free_ports(count: int) -> list[int]:
    """Return different ports that nothing listens on at this moment."""
    with ExitStack() as probes:
        sockets = [probes.enter_context(socket.create_server((HOST, 0))) for _ in range(count)]
        return [int(probe.getsockname()[1]) for probe in sockets]


def port_number(text: str) -> int:
    """Read a TCP port for argparse."""
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= 65535):
        raise argparse.ArgumentTypeError(f"must be a port in 1..65535, got {text}")
    return int(text)


def start(programs: Programs, folder: Path, bases: Mapping[str, Path], grpc_port: int, http_port: int) -> None:
    """Start the stand-in with the models ``bases`` (name -> base path) and the function; return once both can answer.

    The function asks for the last of them. Writes models.config into ``folder``. Raises RunError.
    """
    config = folder / "models.config"
    config.write_text(models_config(bases), encoding="utf-8")
    serving = (f"--port={grpc_port}", f"--model_config_file={config.resolve()}", f"--grpc_max_threads={GRPC_THREADS}")
    programs.start("model server", "deploy.model_server", *serving, "--max_num_load_retries=0")
    settings = {"TF_SERVING_ADDRESS": f"{HOST}:{grpc_port}", "MODEL_NAME": list(bases)[-1], "THREADS": str(THREADS)}
    flags = ("--target=segment", "--source=main.py", f"--host={HOST}", f"--port={http_port}")
    programs.start("function", "functions_framework", *flags, settings=settings)
    # Ask the function for its model only once the model listens: gRPC waits longer after each refused connection.
    programs.wait_until(lambda: _listens(grpc_port), "the model server listening", START_S)
    programs.wait_until(lambda: _listens(http_port), "the function listening", START_S)
    programs.wait_until(lambda: _ready(http_port), "the function ready", START_S)


def models_config(bases: Mapping[str, Path]) -> str:
    """Return a ModelServerConfig, as text, of models by name and base path."""
    entries = (
        f'  config {{ name: "{name}" base_path: {json.dumps(str(base.resolve()))} model_platform: "tensorflow" }}\n'
        for name, base in bases.items()
    )
    return f"model_config_list {{\n{''.join(entries)}}}\n"


def post(programs: Programs, http_port: int, image: bytes, content_type: str) -> tuple[int, bytes]:
    """Return the function's status and answer to an image. Raises RunError if there is none."""
    try:
        return _ask(http_port, "POST", "/", image, {"Content-Type": content_type})
    except (OSError, http.client.HTTPException) as error:
        programs.check()
        raise RunError(f"the function must answer, got {type(error).__name__}: {error}") from error


def _ready(http_port: int) -> bool:
    try:
        return _ask(http_port, "GET", "/ready")[0] == 200
    except (OSError, http.client.HTTPException):
        return False


def _ask(
    http_port: int, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] = MappingProxyType({})
) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(HOST, http_port, timeout=ANSWER_S)  # unlike urllib it takes no proxy
    try:
        connection.request(method, path, body, dict(headers))
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0
