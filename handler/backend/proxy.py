"""The proxy that gRPC takes from the environment, for the log. Without its name, its address looks like the server's.

Source: gRPC core, http_proxy_mapper.cc. gRPC reads lower-case names alone.
"""

import ipaddress
from collections.abc import Mapping
from contextlib import suppress
from urllib.parse import urlsplit

VARIABLES = ("grpc_proxy", "https_proxy", "http_proxy")
EXCEPTIONS = ("no_grpc_proxy", "no_proxy")
LOCAL = ("unix:", "unix-abstract:", "vsock:")


def describe_proxy(address: str, environ: Mapping[str, str]) -> str | None:
    """Return the variable and the proxy through which gRPC connects to ``address``, None if it connects directly."""
    variable = next((name for name in VARIABLES if environ.get(name)), None)
    exceptions = next((environ[name] for name in EXCEPTIONS if environ.get(name)), "")
    if (
        variable is None
        or address.startswith(LOCAL)
        or any(_covers(exception.strip(), _host(address)) for exception in exceptions.split(","))
    ):
        return None
    proxy = urlsplit(environ[variable]).netloc or environ[variable]
    return f"{variable}, {proxy.rpartition('@')[2]}"  # without user and password


def _host(address: str) -> str:
    """Return the host of an address that gRPC resolves."""
    name = address.rpartition("/")[2].removeprefix("ipv4:").removeprefix("ipv6:")
    return (name.rpartition(":")[0] or name).strip("[]")


def _covers(exception: str, host: str) -> bool:
    """Return True if an entry of no_proxy names the host: by the end of its name, or by a range of addresses."""
    with suppress(ValueError):
        return ipaddress.ip_address(host) in ipaddress.ip_network(exception)
    return bool(exception) and host.lower().endswith(exception.lower())
