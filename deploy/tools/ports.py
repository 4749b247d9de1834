"""Is a TCP port free? Commands ask before they load TensorFlow: the answer then comes at once."""

import socket

from deploy.tools.processes import RunError


def check_free(host: str, port: int) -> None:
    """Bind and release ``port``; do nothing for port 0. Raises RunError if nothing can listen on it."""
    if not port:
        return
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as gRPC does: TIME_WAIT is no obstacle
            probe.bind(address)
            probe.listen(1)
    except OSError as error:
        raise RunError(f"cannot listen on {host}:{port}: {error.strerror}") from error
