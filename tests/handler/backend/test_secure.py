"""TLS, mutual TLS and ID tokens between the function and the stand-in, with certificates made here.

The function runs as it is deployed. What it is refused it answers with 503, and its log says why, without a secret.
"""

import json
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import pytest

from deploy.model_server.flags import Flags
from deploy.model_server.models import Model
from deploy.model_server.server import ModelServer
from tests.support.certificates import Authority, ssl_config
from tests.support.front_door import FrontDoor, MetadataServer, claims, front_door, metadata_server
from tests.support.function import running
from tests.support.images import noise

AUDIENCE = "https://model.example"


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("ours"))


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("theirs"))


@contextmanager
def stand_in(base_path, config=None):
    """Yield host:port of the stand-in, with ``config`` as its --ssl_config_file."""
    flags = Flags(port=0, ssl_config_file=str(config or ""))
    with ModelServer(flags, [Model("shapes", base_path)]) as server:
        yield server.target


@pytest.fixture
def start(tmp_path):
    """Return a function that starts segment with settings; all of them end with the test."""
    with ExitStack() as stack:

        def start(address, **settings):
            settings = {"DEADLINE_S": "5", **settings}
            names = {"TF_SERVING_ADDRESS": address, "TF_SERVING_TLS": "on", "MODEL_NAME": "shapes"}
            return stack.enter_context(running(tmp_path, **{**names, **settings}))

        yield start


def segments(function):
    answer = function.post(noise())
    return answer.status == 200 and answer.json()["instances"][0]["area"] == 512


def refused(function, *reasons):
    """Assert 503, and that the request's log line gives one of the reasons; return what was logged."""
    answer = function.post(noise())
    assert answer.status == 503, answer.body
    assert int(answer.headers["retry-after"]) > 0
    (line,) = [line for line in function.log_lines() if line.get("status") == 503]
    assert any(reason in line["reason"] for reason in reasons), line["reason"]
    assert "model" in answer.json()["detail"]
    return function.log.read_text()


def client(pair):
    return {"TF_SERVING_CERT_FILE": str(pair.cert_file), "TF_SERVING_KEY_FILE": str(pair.key_file)}


@pytest.fixture(scope="module")
def server_tls(base_path, ours, tmp_path_factory):
    config = ssl_config(tmp_path_factory.mktemp("tls") / "ssl.config", ours.issue("127.0.0.1"))
    with stand_in(base_path, config) as address:
        yield address


@pytest.fixture(scope="module")
def mutual_tls(base_path, ours, tmp_path_factory):
    config = ssl_config(tmp_path_factory.mktemp("mtls") / "ssl.config", ours.issue("127.0.0.1"), client_ca=ours)
    with stand_in(base_path, config) as address:
        yield address


def test_tls(start, server_tls, ours):
    function = start(server_tls, TF_SERVING_CA_FILE=str(ours.file))
    assert function.get("/ready").status == 200
    assert segments(function)


def test_a_server_of_another_authority_is_refused(start, server_tls, theirs):
    refused(start(server_tls, TF_SERVING_CA_FILE=str(theirs.file)), "CERTIFICATE_VERIFY_FAILED")


def test_authorities_that_the_world_trusts_do_not_vouch_for_a_private_server(start, server_tls):
    refused(start(server_tls), "CERTIFICATE_VERIFY_FAILED")


def test_a_server_whose_certificate_expired_is_refused(start, base_path, ours, tmp_path):
    config = ssl_config(tmp_path / "ssl.config", ours.issue("127.0.0.1", expired=True))
    with stand_in(base_path, config) as address:
        refused(start(address, TF_SERVING_CA_FILE=str(ours.file)), "certificate has expired")


def test_a_server_of_another_name_is_refused_unless_that_name_is_expected(start, base_path, ours, tmp_path):
    config = ssl_config(tmp_path / "ssl.config", ours.issue("model.internal"))
    with stand_in(base_path, config) as address:
        trust = {"TF_SERVING_CA_FILE": str(ours.file)}
        refused(start(address, **trust), "Hostname Verification Check failed")
        assert segments(start(address, **trust, TF_SERVING_SERVER_NAME="model.internal"))


def test_plaintext_to_a_server_of_tls_is_refused(start, server_tls):
    refused(start(server_tls, TF_SERVING_TLS="off", DEADLINE_S="3"), "a server that wants TLS")


def test_mutual_tls(start, mutual_tls, ours):
    function = start(mutual_tls, TF_SERVING_CA_FILE=str(ours.file), **client(ours.issue("function")))
    assert segments(function)


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(("nobody's", "was shown no certificate"), marks=pytest.mark.campaign),
        pytest.param(("another authority's", "was shown a certificate of"), marks=pytest.mark.campaign),
        ("expired", "valid until Jan  2 00:00:00 2020 GMT"),
    ],
)
def test_a_client_certificate_that_does_not_do(start, mutual_tls, ours, theirs, case):
    whose, reason = case
    pairs = {"another authority's": theirs.issue("function"), "expired": ours.issue("function", expired=True)}
    settings = {"DEADLINE_S": "3", **(client(pairs[whose]) if whose in pairs else {})}
    log = refused(start(mutual_tls, TF_SERVING_CA_FILE=str(ours.file), **settings), reason)
    assert "PRIVATE KEY" not in log


def test_certificates_are_renewed_in_place(start, mutual_tls, ours, theirs, tmp_path):
    files = {kind: tmp_path / f"renewed.{kind}" for kind in ("cert", "key")}

    def renew(pair):
        shutil.copy(pair.cert_file, files["cert"])
        shutil.copy(pair.key_file, files["key"])

    renew(theirs.issue("function"))
    settings = {"TF_SERVING_CERT_FILE": str(files["cert"]), "TF_SERVING_KEY_FILE": str(files["key"])}
    function = start(mutual_tls, TF_SERVING_CA_FILE=str(ours.file), **settings)
    refused(function, "UNAVAILABLE")
    renew(ours.issue("function"))
    assert segments(function)
    files["cert"].write_text("half of a")
    assert segments(function)  # by the certificates it has
    assert "the certificates are kept" in function.log.read_text()


@pytest.fixture
def guarded(base_path, ours):
    """Yield (address, door, metadata server) of a stand-in behind a front door that wants ID tokens."""
    with stand_in(base_path) as target, ExitStack() as stack:
        pair = ours.issue("127.0.0.1")
        state = MetadataServer(pair.key, pair.cert)
        door = FrontDoor(AUDIENCE, pair.cert, target)
        address = stack.enter_context(front_door(door, pair))
        state.address = stack.enter_context(metadata_server(state))
        yield address, door, state


def account(ours, metadata_address):
    return {
        "TF_SERVING_CA_FILE": str(ours.file),
        "TF_SERVING_AUDIENCE": AUDIENCE,
        "GCE_METADATA_HOST": metadata_address,
        "GCE_METADATA_IP": metadata_address,
        "GOOGLE_APPLICATION_CREDENTIALS": "",
    }


def test_an_id_token_goes_along_and_is_kept_until_it_expires(start, guarded, ours):
    address, door, state = guarded
    function = start(address, **account(ours, state.address))
    for _ in range(5):
        assert segments(function)
    assert door.passed == 6  # the contract, five images
    assert [claims(token)["aud"] for token in state.given] == [AUDIENCE]
    assert state.given[0] not in function.log.read_text()


def test_a_token_about_to_expire_is_used_and_renewed_meanwhile(start, guarded, ours):
    address, _, state = guarded
    state.lifetime_s = 120  # less than what google-auth wants it to be good for yet
    function = start(address, **account(ours, state.address))
    assert segments(function)
    end_s = time.monotonic() + 10
    while len(state.given) < 2 and time.monotonic() < end_s:
        assert segments(function)
    assert len(state.given) >= 2
    state.fault = "unavailable"
    assert segments(function)  # by what it has


def test_a_token_that_is_refused_is_fetched_anew_once(start, guarded, ours):
    address, door, state = guarded
    function = start(address, **account(ours, state.address))
    assert segments(function)
    door.revoked = set(state.given)
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(lambda _: segments(function), range(16)))
    assert len(state.given) == 2


def test_a_token_that_the_server_quotes_is_not_logged(start, guarded, ours):
    address, door, state = guarded
    door.quotes = True

    class Everything(set):
        def __contains__(self, token):
            return True

    door.revoked = Everything()
    log = refused(start(address, **account(ours, state.address)), "no longer good: Bearer ...")
    assert not [token for token in state.given if token in log]


def test_a_token_comes_past_any_proxy(start, guarded, ours):
    address, _, state = guarded
    proxy = {"http_proxy": "http://127.0.0.1:1", "no_proxy": "", "NO_PROXY": "", "no_grpc_proxy": "127.0.0.1"}
    assert segments(start(address, **account(ours, state.address), **proxy))


def test_no_token_is_sent_where_none_is_asked_for(start, guarded, ours):
    address, door, state = guarded
    refused(start(address, TF_SERVING_CA_FILE=str(ours.file)), "PERMISSION_DENIED")
    assert (door.passed, state.given) == (0, [])


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("other audience", "UNAUTHENTICATED"),
        ("garbage", "the response is no token"),
        pytest.param("expired", "has expired", marks=pytest.mark.campaign),
        pytest.param("no account", "404", marks=pytest.mark.campaign),
        pytest.param("unavailable", "none came within the deadline", marks=pytest.mark.campaign),
    ],
)
def test_a_token_that_does_not_do(start, guarded, ours, fault, reason):
    address, door, state = guarded
    state.fault = fault
    log = refused(start(address, **account(ours, state.address)), reason)
    assert door.passed == 0
    assert "SECRET" not in log
    assert not [token for token in state.given if token in log]


def test_a_metadata_server_that_hangs_costs_no_more_than_the_deadline(start, guarded, ours):
    address, _, state = guarded
    state.fault = "hangs"
    function = start(address, **{**account(ours, state.address), "DEADLINE_S": "2"})
    began = time.monotonic()
    refused(function, "none came within the deadline")
    assert 1.5 < time.monotonic() - began < 4


@pytest.fixture
def key_file(ours, guarded, tmp_path):
    """Return a path and contents of a service account's key file, and settings that name it."""
    _, _, state = guarded
    path = tmp_path / "account.json"
    key = {
        "type": "service_account",
        "client_email": "segment@a-project.iam.gserviceaccount.com",
        "private_key": state.key,
        "token_uri": f"http://{state.address}/token",
    }
    settings = {**account(ours, "127.0.0.1:1"), "GOOGLE_APPLICATION_CREDENTIALS": str(path)}
    return path, key, settings


def test_a_token_by_a_key_file(start, guarded, key_file):
    address, _, state = guarded
    path, key, settings = key_file
    path.write_text(json.dumps(key))
    assert segments(start(address, **settings))
    assert [claims(token)["aud"] for token in state.given] == [AUDIENCE]
    path.unlink()
    refused(start(address, **settings), "GOOGLE_APPLICATION_CREDENTIALS path is either not found or invalid")


@pytest.mark.parametrize(
    "fault",
    [
        "a list",
        "no id_token",
        *(pytest.param(one, marks=pytest.mark.campaign) for one in ("UTF-16", "a number", "deep", "a key in parts")),
    ],
)
def test_a_key_file_that_does_not_do_is_told_without_its_key(start, guarded, key_file, fault):
    address, _, state = guarded
    path, key, settings = key_file
    contents = {
        "UTF-16": json.dumps(key).encode("utf-16"),
        "a list": json.dumps([key]).encode(),
        "a number": b"12",
        "deep": b"[" * 200_000,
        "a key in parts": json.dumps({**key, "private_key": state.key.splitlines()}).encode(),
    }
    path.write_bytes(contents.get(fault, json.dumps(key).encode()))
    state.fault = fault
    log = refused(start(address, **settings), AUDIENCE)
    assert "SECRET" not in log
    assert not [line for line in state.key.splitlines() if line in log]
