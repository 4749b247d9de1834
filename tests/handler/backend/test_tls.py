"""The files of certificates: what is wrong is said at the start, and what changed is noticed."""

import shutil

import pytest

from handler.backend import tls as tls_module
from handler.backend.channel import Channel
from handler.backend.tls import Tls
from handler.errors import ConfigError
from tests.support.certificates import Authority


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path / "ca")


@pytest.fixture
def pair(authority):
    return authority.issue("function")


def test_what_is_read(authority, pair):
    ca, key, cert = Tls(str(authority.file), str(pair.cert_file), str(pair.key_file)).read()
    assert (ca.decode(), key.decode(), cert.decode()) == (authority.text, pair.key, pair.cert)
    assert Tls().read() == (None, None, None)


def test_files_that_do_not_do_are_told_at_the_start(authority, pair, tmp_path):
    def refuses(message, *files):
        with pytest.raises(ConfigError, match=message) as failure:
            Channel("localhost:1", "shapes", Tls(*map(str, files)))
        assert "PRIVATE" not in str(failure.value)

    refuses("TF_SERVING_CA_FILE must name a file that can be read.*No such file", tmp_path / "none")
    refuses("TF_SERVING_CA_FILE must hold certificates in PEM", pair.key_file)
    both = "TF_SERVING_CERT_FILE and TF_SERVING_KEY_FILE must hold a certificate and its key"
    refuses(
        "TF_SERVING_CERT_FILE must name a file that can be read, got No such file", "", tmp_path / "none", pair.key_file
    )
    refuses(both, "", pair.key_file, pair.cert_file)
    refuses(f"{both}.*KEY_VALUES_MISMATCH", "", pair.cert_file, authority.issue("other").key_file)


def test_a_byte_order_mark_is_told(authority, tmp_path):
    marked = tmp_path / "marked.pem"
    marked.write_bytes(b"\xef\xbb\xbf" + authority.file.read_bytes())
    with pytest.raises(ConfigError, match="got a byte order mark"):
        Tls(str(marked)).read()


def read_while(monkeypatch, tls, *, change, after):
    """Return what ``tls`` reads if ``change`` runs as soon as the variable ``after`` has been read."""
    read_file = tls_module._read_file

    def read_and_change(variable, file):
        content = read_file(variable, file)
        if variable == after:
            change()
        return content

    with monkeypatch.context() as patch:
        patch.setattr(tls_module, "_read_file", read_and_change)
        return tls.read()


@pytest.mark.parametrize("after", ["TF_SERVING_CA_FILE", "TF_SERVING_KEY_FILE", "TF_SERVING_CERT_FILE"])
def test_what_is_read_while_files_are_renewed_fits_together(authority, tmp_path, monkeypatch, after):
    """If a renewal replaces the files between two reads, key and certificate of two pairs are refused."""
    first, second = (authority.issue(name) for name in ("first", "second"))
    cert_file, key_file = tmp_path / "renewed.cert", tmp_path / "renewed.key"

    def write(pair):
        shutil.copy(pair.cert_file, cert_file)
        shutil.copy(pair.key_file, key_file)

    def renewed():
        return read_while(monkeypatch, tls, change=lambda: write(second), after=after)

    write(first)
    tls = Tls(str(authority.file), str(cert_file), str(key_file))
    if after == "TF_SERVING_KEY_FILE":
        with pytest.raises(ConfigError, match="KEY_VALUES_MISMATCH"):
            renewed()
    else:
        whole = second if after == "TF_SERVING_CA_FILE" else first
        assert tuple(content.decode() for content in renewed()) == (authority.text, whole.key, whole.cert)


@pytest.mark.parametrize("name", ["key_file", "cert_file", "ca_file"])
@pytest.mark.parametrize("content", [b"", b"-----BEGIN CERTIFICATE-----\n"])
def test_half_a_file_is_refused(authority, pair, tmp_path, name, content):
    """An empty key would make gRPC end the process, an empty list of authorities would make it trust its own."""
    files = {"ca_file": authority.file, "cert_file": pair.cert_file, "key_file": pair.key_file}
    files[name] = tmp_path / "half.pem"
    files[name].write_bytes(content)
    with pytest.raises(ConfigError, match=f"TF_SERVING_{name.upper()}.* must hold"):
        Tls(**{name: str(file) for name, file in files.items()}).read()


def test_a_token_never_goes_in_plaintext():
    with pytest.raises(ConfigError, match="must go over TLS, got an address in plaintext"):
        Channel("localhost:1", "shapes", None, "https://model.example")


def test_a_changed_file_changes_the_fingerprint(authority, tmp_path):
    mounted = tmp_path / "mounted"
    mounted.symlink_to(authority.file)
    tls = Tls(str(mounted))
    before = tls.fingerprint()
    assert tls.fingerprint() == before
    other = tmp_path / "other"
    other.symlink_to(Authority(tmp_path / "renewed").file)
    other.replace(mounted)  # as Kubernetes renews what it mounts
    assert tls.fingerprint() != before
    before = tls.fingerprint()
    mounted.resolve().chmod(0o600)  # what could not be read may be readable now
    assert tls.fingerprint() != before
    mounted.unlink()
    assert tls.fingerprint() == ((0, 0, 0),)
