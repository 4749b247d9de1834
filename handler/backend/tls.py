"""Certificates: whom the function trusts to be the model server, and how it proves who it is itself.

The files are read where a channel opens, and again where they have changed: certificates that live for hours are
renewed in place, by a secret that is mounted or by a sidecar.
"""

import codecs
import os
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from handler.errors import ConfigError

Stamp = tuple[tuple[int, int, int], ...]
# The standard library's one reader of a certificate that is nobody's peer; the alternative is 18 MB of cryptography.
_decode: Any = ssl._ssl._test_decode_cert  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True)
class Tls:
    """Names of PEM files, "" for none. ``ca_file``: trusted authorities, else those that gRPC brings along.

    ``cert_file`` and ``key_file``: the function's own certificate, with its chain, and its key, for mutual TLS.
    ``server_name``: what the server's certificate must name, where that is not the host of the address.
    """

    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    server_name: str = ""

    def stamp(self) -> Stamp:
        """Return what changes where a file does; one that is not there counts as changed."""
        return tuple(_stamp(file) for file in (self.ca_file, self.key_file, self.cert_file) if file)

    def read(self) -> tuple[bytes | None, bytes | None, bytes | None]:
        """Return authorities, key and certificate as PEM, None for none; raises ConfigError where they are no such.

        gRPC itself says nothing of a broken file until a call fails, and then not what is wrong with it.
        """
        before = self._contents()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        ca, key, cert = before
        if any((content or b"").startswith(codecs.BOM_UTF8) for content in before):
            raise ConfigError("files of certificates must be PEM in ASCII, got a byte order mark before it")
        if self.ca_file:
            try:
                context.load_verify_locations(self.ca_file)
            except (ssl.SSLError, OSError) as error:
                got = f"{self.ca_file!r}: {error}"
                raise ConfigError(f"TF_SERVING_CA_FILE must hold certificates in PEM, got {got}") from error
            if not context.cert_store_stats()["x509"]:
                raise ConfigError(f"TF_SERVING_CA_FILE must hold certificates in PEM, got {self.ca_file!r} with none")
        if self.cert_file:
            try:
                context.load_cert_chain(self.cert_file, self.key_file, password="")
            except (ssl.SSLError, OSError, ValueError) as error:
                what = "TF_SERVING_CERT_FILE and TF_SERVING_KEY_FILE must hold a certificate and its key, unencrypted"
                raise ConfigError(f"{what}, got {self.cert_file!r} and {self.key_file!r}: {error}") from error
        if self._contents() != before:  # what was checked is what is used: an empty key makes gRPC abort the process
            raise ConfigError("the files of certificates must stay as they are while they are read, got a change")
        return ca, key, cert

    def _contents(self) -> tuple[bytes | None, bytes | None, bytes | None]:
        ca, key, cert = (
            _read(variable, file)
            for variable, file in (
                ("TF_SERVING_CA_FILE", self.ca_file),
                ("TF_SERVING_KEY_FILE", self.key_file),
                ("TF_SERVING_CERT_FILE", self.cert_file),
            )
        )
        return ca, key, cert

    def shown(self) -> str:
        """Return what the server is shown of the function, in words for a log."""
        if not self.cert_file:
            return "no certificate"
        try:
            read = _decode(self.cert_file)
        except (OSError, ssl.SSLError) as error:
            return f"a certificate that cannot be read again: {error}"
        issuer = ", ".join(value for part in read["issuer"] for _, value in part)
        return f"a certificate of {issuer}, valid until {read['notAfter']}"


def _read(variable: str, file: str) -> bytes | None:
    try:
        return Path(file).read_bytes() if file else None
    except OSError as error:
        raise ConfigError(f"{variable} must name a file that can be read, got {error.strerror}: {file!r}") from error


def _stamp(file: str) -> tuple[int, int, int]:
    try:
        status = os.stat(file)  # noqa: PTH116 - at each call, three times as fast as Path's
    except OSError:
        return 0, 0, 0
    return status.st_ctime_ns, status.st_ino, status.st_size
