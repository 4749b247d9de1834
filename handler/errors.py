"""The expected errors, as one tree of classes. Each class says whose fault it is and has an HTTP status."""

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

QUOTED_CHARACTERS = 120


def quoted(value: Any) -> str:
    """Return a client's text or JSON value as error messages quote it: printable, cut after 120 characters."""
    if isinstance(value, str):
        rest = f" and {len(value) - QUOTED_CHARACTERS} characters more" if len(value) > QUOTED_CHARACTERS else ""
        return f"{value[:QUOTED_CHARACTERS]!r}{rest}"
    text = json.dumps(value)
    return text if len(text) <= QUOTED_CHARACTERS else f"{text[:QUOTED_CHARACTERS]}..."


class SegmentError(Exception):
    """Base of every expected error. The client reads the message, so it holds no address and no secret.

    ``log_fields``: what only the log tells.
    """

    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal error"
    retry_after_s: ClassVar[int | None] = None
    log_fields: Mapping[str, str] = MappingProxyType({})

    @property
    def detail(self) -> str:
        """What was expected, then what came."""
        return str(self)


class ClientError(SegmentError):
    """The client must change the request before it can succeed."""

    status = 400
    title = "Bad request"


class BadRequest(ClientError):  # noqa: N818 - named after the HTTP status it answers
    """The service cannot read an option, the body or the image."""


class Unauthorized(ClientError):  # noqa: N818
    """API keys are configured, and the request has none of them."""

    status = 401
    title = "Unauthorized"


class NotFound(ClientError):  # noqa: N818
    """There is no resource at this path."""

    status = 404
    title = "Not found"


class MethodNotAllowed(ClientError):  # noqa: N818
    """The resource does not offer this method. ``allowed``: the methods that it offers."""

    status = 405
    title = "Method not allowed"

    def __init__(self, message: str, allowed: str) -> None:
        super().__init__(message)
        self.allowed = allowed


class RequestTimeout(ClientError):  # noqa: N818
    """The client took too long to send the request."""

    status = 408
    title = "Request timeout"


class TooLarge(ClientError):  # noqa: N818
    """The request has more bytes, pixels or parts than the service accepts."""

    status = 413
    title = "Content too large"


class UnsupportedMedia(ClientError):  # noqa: N818
    """The bytes are not an image of an accepted kind."""

    status = 415
    title = "Unsupported media type"


class Busy(SegmentError):  # noqa: N818
    """The process has too much to do, or no memory free for the image. The same request may succeed later."""

    status = 503
    title = "Service busy"
    retry_after_s = 5


class BackendError(SegmentError):
    """The model server failed. The same request may succeed later.

    ``reason``: what the server said. It can hold addresses and paths, so only the log gets it.
    """

    status = 502
    title = "Bad gateway"

    def __init__(self, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason


class ContractViolation(BackendError):  # noqa: N818
    """The model or its contract does not fit this client."""

    title = "Model contract violated"


class RequestRefused(ContractViolation):
    """The model refused the request: its signature differs from the contract, or its graph failed on the inputs."""


class ModelUnavailable(BackendError):  # noqa: N818
    """The model server is unreachable or overloaded, or it does not serve the model."""

    status = 503
    title = "Model unavailable"
    retry_after_s = 5


class NotServed(ModelUnavailable):
    """None of the replicas that were tried serves this model, version or label."""


class VersionChanged(ModelUnavailable):
    """A different model version answered than expected. ``version``: the one that answered."""

    def __init__(self, message: str, version: int) -> None:
        super().__init__(message)
        self.version = version


class ModelTimeout(BackendError):  # noqa: N818
    """The deadline passed before the model answered."""

    status = 504
    title = "Model timed out"


class ConfigError(Exception):
    """A setting cannot be used. Raised while the function starts, never during a request."""
