"""TLS certificates: the authorities that the function trusts, and its own certificate.

The files are read when a channel opens, and again when they have changed: a mounted secret or a sidecar renews
short-lived certificates in place.
"""

import codecs
import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from handler.errors import ConfigError

Fingerprint = tuple[tuple[int, int, int], ...]
# The only certificate parser in the standard library (private API). The package cryptography would add 18 MB.
_decode_certificate: Any = ssl._ssl._test_decode_cert  # type: ignore[attr-defined]


class Tls(msgspec.Struct, frozen=True):
    """Paths of PEM files, "" for none. ``ca_file``: trusted authorities; "" for those that gRPC contains.

    ``cert_file`` and ``key_file``: the function's certificate with its chain, and its key, for mutual TLS.
    ``server_name``: the name in the server's certificate, if it is not the host of the address.
    """

    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    server_name: str = ""

    def fingerprint(self) -> Fingerprint:
        """Return ctime (ns), inode and size of each file: they change if a file changes. All are 0 if it is missing."""
        return tuple(_file_fingerprint(file) for file in (self.ca_file, self.key_file, self.cert_file) if file)

    def read(self) -> tuple[bytes | None, bytes | None, bytes | None]:
        """Return authorities, key and certificate as PEM, None for none. Raises ConfigError if they are not valid.

        It checks the bytes that it returns: a renewal may replace the files meanwhile. gRPC would report broken ones
        only when a call fails, without saying what is wrong, and an empty key would make it abort the process.
        """
        ca = _read_file("TF_SERVING_CA_FILE", self.ca_file)
        key = _read_file("TF_SERVING_KEY_FILE", self.key_file)
        cert = _read_file("TF_SERVING_CERT_FILE", self.cert_file)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if ca is not None:
            try:
                context.load_verify_locations(cadata=ca.decode("ascii"))
            except (ssl.SSLError, ValueError) as error:
                got = f"{self.ca_file!r}: {error}"
                raise ConfigError(f"TF_SERVING_CA_FILE must hold certificates in PEM, got {got}") from error
        if cert is not None and key is not None:
            try:
                with _as_file(cert) as cert_file, _as_file(key) as key_file:
                    context.load_cert_chain(cert_file, key_file, password="")
            except (ssl.SSLError, ValueError) as error:
                what = "TF_SERVING_CERT_FILE and TF_SERVING_KEY_FILE must hold a certificate and its key, unencrypted"
                raise ConfigError(f"{what}, got {self.cert_file!r} and {self.key_file!r}: {error}") from error
        return ca, key, cert

    def describe_certificate(self) -> str:
        """Return issuer and end date of the function's certificate, in words for the log."""
        if not self.cert_file:
            return "no certificate"
        try:
            fields = _decode_certificate(self.cert_file)
        except (OSError, ssl.SSLError) as error:
            return f"a certificate that cannot be read again: {error}"
        issuer = ", ".join(value for part in fields["issuer"] for _, value in part)
        return f"a certificate of {issuer}, valid until {fields['notAfter']}"


def _read_file(variable: str, file: str) -> bytes | None:
    if not file:
        return None
    try:
        content = Path(file).read_bytes()
    except OSError as error:
        raise ConfigError(f"{variable} must name a file that can be read, got {error.strerror}: {file!r}") from error
    if content.startswith(codecs.BOM_UTF8):  # OpenSSL skips it, gRPC does not
        raise ConfigError(f"{variable} must hold PEM in ASCII, got a byte order mark at the start of {file!r}")
    return content


@contextmanager
def _as_file(content: bytes) -> Iterator[str]:
    """Yield the path of a file in memory: OpenSSL takes a key from a path alone."""
    with open(os.memfd_create("tls"), "w+b") as file:  # noqa: PTH123 - there is no path
        file.write(content)
        file.flush()
        yield f"/proc/self/fd/{file.fileno()}"


def _file_fingerprint(file: str) -> tuple[int, int, int]:
    try:
        status = os.stat(file)  # noqa: PTH116 - runs at each call; three times as fast as Path.stat
    except OSError:
        return 0, 0, 0
    return status.st_ctime_ns, status.st_ino, status.st_size
