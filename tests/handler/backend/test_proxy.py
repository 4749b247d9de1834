"""The proxy that gRPC takes from the environment is named in the log, by a call through one that is not there."""

import os
import subprocess
import sys

import pytest

from handler.backend.proxy import describe_proxy
from tests.support.processes import ROOT, free_port

CALL = """
import sys, time
from handler.backend.channel import Channel
from handler.errors import ModelUnavailable
try:
    Channel(sys.argv[1], "shapes").call("/a/b", b"", time.monotonic() + 5)
except ModelUnavailable as error:
    print(error.detail, "|", error.reason)
"""


def reason(address, **variables):
    """Return what a client is told and what the log gets if a call to ``address`` fails in this environment."""
    clean = {name: value for name, value in os.environ.items() if not name.endswith("_proxy")}
    command = [sys.executable, "-c", CALL, address]
    done = subprocess.run(
        command, env={**clean, **variables}, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout.split(" | ")


def test_the_log_names_the_proxy_and_its_variable_without_its_password():
    port = free_port()
    told, logged = reason("10.1.2.3:8500", http_proxy=f"http://user:secret@127.0.0.1:{port}/")
    assert f"127.0.0.1:{port}: Failed to connect" in logged  # it is this proxy that gRPC means
    assert f"gRPC connects through the proxy of http_proxy, 127.0.0.1:{port}: no_proxy can name" in logged
    assert "secret" not in told + logged
    assert str(port) not in told


def test_a_direct_call_names_none():
    port = free_port()
    logged = reason(f"127.0.0.1:{port}", http_proxy="http://127.0.0.1:9", no_proxy="127.0.0.0/8")[1]
    assert "proxy" not in logged
    assert f"127.0.0.1:{port}: Failed to connect" in logged


@pytest.mark.parametrize(
    ("address", "variables", "described"),
    [
        ("model:8500", {}, None),
        ("model:8500", {"HTTP_PROXY": "http://p:1"}, None),
        ("model:8500", {"http_proxy": "http://p:1"}, "http_proxy, p:1"),
        ("model:8500", {"http_proxy": "http://p:1", "https_proxy": "http://q:2"}, "https_proxy, q:2"),
        ("model:8500", {"http_proxy": "http://p:1", "grpc_proxy": "r:3"}, "grpc_proxy, r:3"),
        ("dns:///model.internal:8500", {"http_proxy": "http://p:1", "no_proxy": "a, .internal"}, None),
        ("dns:///model.internal:8500", {"http_proxy": "http://p:1", "no_proxy": "a,.example"}, "http_proxy, p:1"),
        ("10.1.2.3:8500", {"http_proxy": "http://p:1", "no_proxy": "10.0.0.0/8"}, None),
        ("[::1]:8500", {"http_proxy": "http://p:1", "no_proxy": "::1"}, None),
        ("model:8500", {"http_proxy": "http://p:1", "no_proxy": "model", "no_grpc_proxy": "x"}, "http_proxy, p:1"),
        ("unix:/run/model.sock", {"http_proxy": "http://p:1"}, None),
    ],
)
def test_what_grpc_would_use(address, variables, described):
    assert describe_proxy(address, variables) == described
