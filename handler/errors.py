"""Everything that can go wrong, as one tree: each class says whose fault it is and carries its HTTP status."""

import json
from typing import Any, ClassVar

SHOWN_CHARACTERS = 120


def shown(value: Any) -> str:
    """Return a value that a client sent as text or JSON, as an error quotes it: printable, and cut where it is long."""
    if isinstance(value, str):
        rest = f" and {len(value) - SHOWN_CHARACTERS} characters more" if len(value) > SHOWN_CHARACTERS else ""
        return f"{value[:SHOWN_CHARACTERS]!r}{rest}"
    text = json.dumps(value)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}..."


class SegmentError(Exception):
    """Base of every expected failure; the message is written for the client, so it holds no address and no secret."""

    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal error"
    retry_after_s: ClassVar[int | None] = None

    @property
    def detail(self) -> str:
        """What was expected and what came."""
        return str(self)


class ClientError(SegmentError):
    """The request has to change before it can succeed."""

    status = 400
    title = "Bad request"


class BadRequest(ClientError):  # noqa: N818 - named after the HTTP status it answers
    """An option, a body or an image that cannot be read."""


class Unauthorized(ClientError):  # noqa: N818
    """API keys are configured and the request has none of them."""

    status = 401
    title = "Unauthorized"


class NotFound(ClientError):  # noqa: N818
    """No such resource."""

    status = 404
    title = "Not found"


class MethodNotAllowed(ClientError):  # noqa: N818
    """The resource exists but does not offer this method."""

    status = 405
    title = "Method not allowed"

    def __init__(self, message: str, allowed: str) -> None:
        super().__init__(message)
        self.allowed = allowed


class TooLarge(ClientError):  # noqa: N818
    """More bytes, pixels or parts than the service accepts."""

    status = 413
    title = "Content too large"


class UnsupportedMedia(ClientError):  # noqa: N818
    """The bytes are no image of an accepted kind."""

    status = 415
    title = "Unsupported media type"


class BackendError(SegmentError):
    """The model server failed; the same request may succeed once it is repaired.

    ``reason``: what the server said, for the log alone: it can hold addresses and paths.
    """

    status = 502
    title = "Bad gateway"

    def __init__(self, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason


class ContractViolation(BackendError):  # noqa: N818
    """The model, or its contract, is not what this client can talk to."""

    title = "Model contract violated"


class RequestRefused(ContractViolation):
    """The model refused the request: its signature is not the contract's, or its graph failed on these inputs."""


class ModelUnavailable(BackendError):  # noqa: N818
    """The model server cannot be reached, is overloaded or does not serve the model."""

    status = 503
    title = "Model unavailable"
    retry_after_s = 5


class NotServed(ModelUnavailable):
    """No replica that was asked serves the model, or this version or label of it."""


class VersionChanged(ModelUnavailable):
    """Another version of the model answered, ``version``, than the one that was expected to."""

    def __init__(self, message: str, version: int) -> None:
        super().__init__(message)
        self.version = version


class ModelTimeout(BackendError):  # noqa: N818
    """The deadline passed before the model answered."""

    status = 504
    title = "Model timed out"


class ConfigError(Exception):
    """A setting that cannot be used; raised while the function starts, never while it answers."""
