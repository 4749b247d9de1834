"""``python -m tests.http``: these tests against the TensorFlow Serving on TF_SERVING_ADDRESS, or the stand-in.

Arguments go to pytest.
"""

import os
import socket
import sys
import tempfile
from pathlib import Path

import pytest

from deploy.tools.processes import Programs, RunError
from deploy.tools.signals import stop_signals
from tests.http import scenes
from tests.support.processes import HOST, START_S, free_port


def main(arguments):
    if os.environ.get("TF_SERVING_ADDRESS"):
        return run(arguments)
    with tempfile.TemporaryDirectory(prefix="segment-contract-") as folder, Programs(Path(folder)) as programs:
        try:
            os.environ["TF_SERVING_ADDRESS"] = stand_in(programs, Path(folder, scenes.NAME))
        except RunError as error:
            print(f"contract: {error}", file=sys.stderr)  # noqa: T201 - it is a command
            return 1
        os.environ["MODEL_NAME"] = scenes.NAME
        return run(arguments)


def stand_in(programs, base):
    """Serve the scene from the folder ``base`` with the stand-in; return its address once it listens."""
    programs.start("export", "tests.http.model", str(base))
    programs.wait()
    port = free_port()
    flags = (f"--port={port}", f"--model_name={scenes.NAME}", f"--model_base_path={base}")
    programs.start("model server", "deploy.model_server", *flags)
    programs.wait_until(lambda: listens(port), "the model server listening", START_S)
    return f"{HOST}:{port}"


def listens(port):
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


def run(arguments):
    return pytest.main(["tests/http", *arguments])


if __name__ == "__main__":
    with stop_signals():
        sys.exit(main(sys.argv[1:]))
