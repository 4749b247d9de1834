"""Is the port free? Asked before TensorFlow is imported, so that the answer comes at once."""

import socket

from deploy.model_server.errors import StartError


def check_free(host: str, port: int) -> None:
    """Bind and release ``port`` (0: nothing to check). Raises StartError when it is taken or cannot be had."""
    if not port:
        return
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as gRPC does: TIME_WAIT is no obstacle
            probe.bind(address)
            probe.listen(1)
    except OSError as error:
        raise StartError(f"cannot listen on {host}:{port}: {error.strerror}") from error
