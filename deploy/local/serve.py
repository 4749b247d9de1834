"""Keep the function and its model running on this machine until Ctrl-C: ``python -m deploy.local.serve``."""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from deploy.local import exports, models, stack
from deploy.local.photo import write_photo
from deploy.tools.processes import Programs, RunError
from deploy.tools.signals import stop_signals

HTTP_PORT, GRPC_PORT = 8080, 8500
LOOK_S = 0.3
KIND = "int8"


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve; return 0 after Ctrl-C or SIGTERM, 1 after an error, which is one line on stderr."""
    args = parser().parse_args(arguments)
    try:
        with stop_signals():
            serve(models.MODELS[args.model], args.port, args.grpc_port, args.build)
    except RunError as error:
        print(f"serve: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("serve: stopped")
    return 0


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    top = argparse.ArgumentParser(prog="python -m deploy.local.serve", description="Serve a model.")
    models.add_option(top)
    top.add_argument("--port", type=stack.port_number, default=HTTP_PORT, help="of the function, HTTP (%(default)s)")
    top.add_argument("--grpc-port", type=stack.port_number, default=GRPC_PORT, help="of the model, gRPC (%(default)s)")
    top.add_argument("--build", type=Path, default=Path("build"), help="folder to write to (%(default)s)")
    return top


def serve(model: models.Model, http_port: int, grpc_port: int, build: Path) -> None:
    """Serve until KeyboardInterrupt. Raises RunError if a program cannot start, or ends."""
    if http_port == grpc_port:
        raise RunError(f"PORT and GRPC_PORT must differ, got {http_port} for both")
    stack.check_port(http_port, "PORT")
    stack.check_port(grpc_port, "GRPC_PORT")
    folder = build / "serve"
    folder.mkdir(parents=True, exist_ok=True)
    photo = write_photo(folder / f"{model.photo}.png")
    exports.ensure(build, folder, [KIND], model)
    with Programs(folder) as programs:
        print("starting the stand-in for TensorFlow Serving and the function ...", flush=True)
        bases = {model.name: exports.base_path(build, KIND, model)}
        stack.start(programs, folder, bases, grpc_port, http_port)
        url = f"http://{stack.HOST}:{http_port}"
        print(f"serving {url} (model: gRPC on {stack.HOST}:{grpc_port}, logs: {folder}); Ctrl-C stops.")
        print("Open it in a browser, or try:")
        print(f"  curl --data-binary @{photo} -H 'Content-Type: image/png' {url}", flush=True)
        while True:
            programs.check()
            time.sleep(LOOK_S)


if __name__ == "__main__":
    sys.exit(main())
