"""Model servers for the tests: in this process, on a free port, behind a real channel."""

from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest

from deploy.model_server.flags import Flags
from deploy.model_server.models import Model, VersionPolicy
from deploy.model_server.server import ModelServer

GOLDEN = Path(__file__).parent / "golden"

Call = Callable[[str, bytes], bytes]


def caller(server: ModelServer) -> tuple[grpc.Channel, Call]:
    """A channel to ``server`` and a function from (path, request bytes) to response bytes."""
    channel = grpc.insecure_channel(server.target, options=[("grpc.max_receive_message_length", -1)])

    def call(path: str, request: bytes) -> bytes:
        return channel.unary_unary(path)(request, timeout=30, wait_for_ready=True)

    return channel, call


def golden_models() -> list[Model]:
    """The models of golden/models.config, wherever the tests are run from."""
    models = GOLDEN / "models"
    return [
        Model("tiny", models / "tiny", VersionPolicy(specific=frozenset({1, 2})), {"stable": 1}),
        Model("half_plus_two", models / "half_plus_two"),
    ]


@pytest.fixture(scope="session")
def golden_calls() -> Iterator[dict[str, Call]]:
    """A call function for each way to run the server, by the name the golden index has for it."""
    with (
        ModelServer(Flags(port=0), golden_models()) as plain,
        ModelServer(Flags(port=0, enable_serialization_as_tensor_content=True), golden_models()) as content,
    ):
        (plain_channel, plain_call), (content_channel, content_call) = caller(plain), caller(content)
        with plain_channel, content_channel:
            yield {"proto_field": plain_call, "tensor_content": content_call}
