"""The files of certificates: what is wrong is said at the start, and what changed is noticed."""

import shutil
import threading
import time

import pytest

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


def test_what_is_read_while_files_are_renewed_fits_together(authority, tmp_path):
    """An empty key makes gRPC end the process, an empty list of authorities makes it trust its own."""
    pairs = [authority.issue(name) for name in ("first", "second")]
    files = {kind: tmp_path / f"renewed.{kind}" for kind in ("ca", "cert", "key")}
    stop = threading.Event()

    def renew():
        while not stop.is_set():
            for pair in pairs:
                shutil.copy(authority.file, files["ca"])
                shutil.copy(pair.cert_file, files["cert"])
                shutil.copy(pair.key_file, files["key"])
                time.sleep(0.001)

    good = {(authority.text, pair.key, pair.cert) for pair in pairs}
    renewing = threading.Thread(target=renew)
    renewing.start()
    try:
        read = changed = 0
        end_s = time.monotonic() + 30
        while (read < 50 or not changed) and time.monotonic() < end_s:
            try:
                found = Tls(*(str(files[kind]) for kind in ("ca", "cert", "key"))).read()
            except ConfigError:
                changed += 1
            else:
                assert tuple(content.decode() for content in found) in good
                read += 1
    finally:
        stop.set()
        renewing.join()
    assert read >= 50
    assert changed


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
