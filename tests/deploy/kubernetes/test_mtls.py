"""Mutual TLS: the secrets that cert-manager makes, and the file for TensorFlow Serving, written by the real script."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
import yaml

from deploy.model_server import ssl_config
from handler.config import Config
from tests.support.certificates import Authority

from .rendered import COMBINED, FUNCTION, KUBERNETES, SERVING, environment, pods_of

MTLS = ("mtls", COMBINED)
# Source: the CRDs of cert-manager 1.17.
CERTIFICATE = {"commonName", "dnsNames", "duration", "isCA", "renewBefore", "secretName", "usages"} | {
    "issuerRef",
    "privateKey",
}
ISSUER_REF = {"name", "kind", "group"}
PRIVATE_KEY = {"algorithm", "encoding", "rotationPolicy", "size"}


def certificates(wanted):
    documents = yaml.safe_load_all((KUBERNETES / "components" / "mtls" / "certificates.yaml").read_text())
    return {one["metadata"]["name"]: one["spec"] for one in documents if one["kind"] == wanted}


def secret_of(pod):
    (name,) = [volume["secret"]["secretName"] for volume in pod.spec["volumes"] if "secret" in volume]
    return name


def writer(overlay):
    (pod,) = pods_of(overlay, SERVING)
    (found,) = [container for container in pod.containers if container["name"] == "ssl-config"]
    return pod, found


def shell(overlay, secret, folder):
    """Run the script with the mounted folders elsewhere."""
    _, container = writer(overlay)
    (script,) = container["args"]
    script = script.replace("/etc/tls", str(secret)).replace("/run/tls", str(folder))
    return subprocess.run([*container["command"], script], check=False, capture_output=True, text=True, timeout=30)


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path / "authority")


@pytest.fixture
def secret(authority, tmp_path):
    """A secret as cert-manager makes it, mounted."""
    folder = tmp_path / "secret"
    folder.mkdir()
    pair = authority.issue("tf-serving.segment.svc")
    for name, text in (("tls.crt", pair.cert), ("tls.key", pair.key), ("ca.crt", authority.text)):
        (folder / name).write_text(text)
    return folder


@pytest.mark.parametrize("overlay", MTLS)
def test_each_side_mounts_the_secret_that_is_made_for_it(overlay):
    made = {spec["secretName"]: spec for spec in certificates("Certificate").values()}
    for pod in pods_of(overlay, FUNCTION):
        assert "client auth" in made[secret_of(pod)]["usages"]
        name = Config.from_environ(environment(pod, overlay)).tls.server_name
    (serving,) = pods_of(overlay, SERVING)
    assert "server auth" in made[secret_of(serving)]["usages"]
    assert name in made[secret_of(serving)]["dnsNames"]


@pytest.mark.parametrize("overlay", MTLS)
def test_keys_are_read_by_the_group_and_kept_in_memory(overlay):
    for pod in (*pods_of(overlay, FUNCTION), *pods_of(overlay, SERVING)):
        (secret,) = [volume["secret"] for volume in pod.spec["volumes"] if "secret" in volume]
        assert secret["defaultMode"] == 0o440
        assert pod.spec["securityContext"]["fsGroup"] == pod.spec["securityContext"]["runAsGroup"]
    pod, container = writer(overlay)
    (written,) = [mount["name"] for mount in container["volumeMounts"] if not mount.get("readOnly")]
    assert [one["emptyDir"]["medium"] for one in pod.spec["volumes"] if one["name"] == written] == ["Memory"]


@pytest.mark.parametrize("overlay", MTLS)
def test_tf_serving_reads_the_file_that_was_written_for_it(overlay):
    pod, container = writer(overlay)
    (flag,) = [argument for argument in pod.main["args"] if argument.startswith("--ssl_config_file=")]
    path = Path(flag.split("=")[1])
    folders = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")}
    read = {mount["name"]: mount["mountPath"] for mount in pod.main["volumeMounts"]}
    assert [read[name] for name in folders] == list(folders.values()) == [str(path.parent)]
    assert f">{path}" in container["args"][0]


@pytest.mark.parametrize("overlay", MTLS)
def test_the_script_writes_what_the_secret_holds_for_nobody_else_to_read(overlay, secret, tmp_path):
    done = shell(overlay, secret, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    path = tmp_path / "ssl.config"
    assert path.stat().st_mode & 0o777 == 0o600
    ssl_config.credentials(path)
    assert path.read_text().splitlines()[-1] == "client_verify: true"


def test_the_script_stops_the_pod_where_a_file_is_missing(secret, tmp_path):
    (secret / "ca.crt").unlink()
    assert shell("mtls", secret, tmp_path).returncode != 0


def test_shellcheck_has_nothing_to_say(tmp_path):
    (script,) = writer("mtls")[1]["args"]
    path = tmp_path / "script.sh"
    path.write_text(script)
    program = Path(sys.prefix) / "bin" / "shellcheck"
    done = subprocess.run([program, "--shell=sh", path], check=False, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "")


def test_a_server_with_that_file_answers_the_function_and_no_stranger(authority, secret, tmp_path, monkeypatch):
    monkeypatch.setitem(os.environ, "no_proxy", "127.0.0.1")
    assert shell("mtls", secret, tmp_path).returncode == 0
    client = authority.issue("segment")
    (pod,) = pods_of("mtls", FUNCTION)
    name = Config.from_environ(environment(pod, "mtls")).tls.server_name
    trusted = {"root_certificates": authority.text.encode()}
    own = {"private_key": client.key.encode(), "certificate_chain": client.cert.encode()}
    other = Authority(tmp_path / "other")
    strange = other.issue("segment")
    strangers = {"private_key": strange.key.encode(), "certificate_chain": strange.cert.encode()}
    with serving(tmp_path / "ssl.config") as port:
        assert ask(port, name, trusted | own) == b"answer"
        for credentials in (trusted, trusted | strangers, own | {"root_certificates": other.text.encode()}):
            with pytest.raises(grpc.RpcError) as failure:
                ask(port, name, credentials)
            assert failure.value.code() == grpc.StatusCode.UNAVAILABLE


@contextmanager
def serving(path):
    """Answer every call, with the credentials of a text SSLConfig; yields the port."""
    server = grpc.server(ThreadPoolExecutor(1))
    handler = grpc.unary_unary_rpc_method_handler(lambda request, context: b"answer")
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("service", {"Call": handler}),))
    port = server.add_secure_port("127.0.0.1:0", ssl_config.credentials(path))
    server.start()
    try:
        yield port
    finally:
        server.stop(None).wait()


def ask(port, name, credentials):
    channel = grpc.secure_channel(
        f"127.0.0.1:{port}", grpc.ssl_channel_credentials(**credentials), [("grpc.ssl_target_name_override", name)]
    )
    with channel:
        return channel.unary_unary("/service/Call")(b"", timeout=10)


def test_certificates_have_fields_of_cert_manager_and_issuers_that_exist():
    issuers = certificates("Issuer")
    for spec in certificates("Certificate").values():
        assert spec.keys() <= CERTIFICATE
        assert spec["issuerRef"].keys() <= ISSUER_REF
        assert spec["privateKey"].keys() <= PRIVATE_KEY
        assert spec["issuerRef"]["name"] in issuers
    signed = [issuer["ca"]["secretName"] for issuer in issuers.values() if "ca" in issuer]
    assert signed == [spec["secretName"] for spec in certificates("Certificate").values() if spec.get("isCA")]
