"""Failures as TensorFlow Serving words them: a canonical status code and a message."""

from enum import IntEnum

from deploy.tools.processes import RunError

MAX_MESSAGE_BYTES = 1024
TRUNCATED = "...TRUNCATED"


class Code(IntEnum):
    """Canonical status codes, numbered as in google.rpc.Code and absl::StatusCode."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class ServingError(Exception):
    """A request, or the loading of a version, that failed with ``code`` and ``message``."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(f"{code.name}: {message}")
        self.code = code
        self.message = message


class StartError(RunError):
    """The server cannot start; the text is the one line that its caller should read."""


class RefusedError(StartError):
    """TensorFlow Serving would not start either: its words."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(f"Failed to start server. Error: {code.name}: {message}")


def truncate(message: str) -> str:
    """Cut ``message`` to MAX_MESSAGE_BYTES of UTF-8, which gRPC trailers take, and mark the cut by TRUNCATED."""
    encoded = message.encode()
    if len(encoded) <= MAX_MESSAGE_BYTES:
        return message
    return encoded[:MAX_MESSAGE_BYTES].decode(errors="ignore") + TRUNCATED
