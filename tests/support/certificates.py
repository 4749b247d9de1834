"""Certificates made for a test: an authority, and what it signs for a server or a client."""

import datetime
from dataclasses import dataclass
from pathlib import Path

import trustme

PAST = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)


@dataclass(frozen=True)
class Pair:
    """A certificate with its key, as files and as text."""

    cert_file: Path
    key_file: Path

    @property
    def cert(self):
        return self.cert_file.read_text()

    @property
    def key(self):
        return self.key_file.read_text()


class Authority:
    """A certificate authority of its own; ``file`` is what those hold who trust it."""

    def __init__(self, folder):
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._ca = trustme.CA()
        self.file = folder / "ca.pem"
        self._ca.cert_pem.write_to_path(self.file)

    @property
    def text(self):
        return self.file.read_text()

    def issue(self, name, expired=False):
        """Return a pair for a host name or an address."""
        start = PAST if expired else None
        end = PAST + datetime.timedelta(days=1) if expired else None
        rsa = trustme.KeyType.RSA  # as a cloud's accounts have
        leaf = self._ca.issue_cert(name, key_type=rsa, not_before=start, not_after=end)
        cert_file, key_file = (self._folder / f"{name}-{expired}.{kind}.pem" for kind in ("cert", "key"))
        cert_file.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
        leaf.private_key_pem.write_to_path(key_file)
        return Pair(cert_file, key_file)


def ssl_config(path, server, client_ca=None):
    """Write an SSLConfig of TensorFlow Serving; with ``client_ca``, clients have to show a certificate it signed."""
    fields = {"server_key": server.key, "server_cert": server.cert}
    if client_ca is not None:
        fields["custom_ca"] = client_ca.text
    lines = [f'{name}: "{text.replace(chr(10), chr(92) + "n")}"' for name, text in fields.items()]
    path.write_text("\n".join([*lines, *(["client_verify: true"] if client_ca is not None else [])]))
    return path
