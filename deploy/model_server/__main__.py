"""Run the stand-in: ``python -m deploy.model_server --model_base_path=FOLDER``; see ``--help``.

Exit codes: 0 after SIGTERM or SIGINT; 255 if TensorFlow Serving would not start either, such as without a version that
can be loaded; 1 for a wrong value of a flag, a config file that cannot be read, a taken port.
"""

import logging
import signal
import sys
import threading
from collections.abc import Sequence

from deploy.model_server.errors import RefusedError
from deploy.model_server.flags import Flags, parse, usage
from deploy.tools.ports import check_free
from deploy.tools.processes import RunError

EXIT_USAGE, EXIT_REFUSED = 1, 255


def main(arguments: Sequence[str]) -> int:
    """Serve until SIGTERM or SIGINT; return the exit code."""
    if "--help" in arguments:
        print(usage())
        return 0
    try:
        flags = parse(arguments)
        check_free(flags.grpc_bind_address, flags.port)
        _serve(flags)
    except RunError as error:
        print(error, file=sys.stderr)
        return EXIT_REFUSED if isinstance(error, RefusedError) else EXIT_USAGE
    return 0


def _serve(flags: Flags) -> None:
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # its loader calls itself deprecated
    from deploy.model_server.server import ModelServer  # noqa: PLC0415 - seconds of TensorFlow, after the checks

    server = ModelServer(flags)
    try:
        server.start(stop)
        stop.wait()
    finally:
        server.stop()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
