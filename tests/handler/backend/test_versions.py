"""A version by its number or by its label, on the stand-in with a model of two versions."""

import shutil

import pytest

from deploy.model_server.flags import Flags
from deploy.model_server.models import Model, VersionPolicy
from deploy.model_server.server import ModelServer
from handler.errors import ModelUnavailable
from tests.support.client import connect, predict


@pytest.fixture(scope="module")
def address(base_path, tmp_path_factory):
    base = tmp_path_factory.mktemp("two")
    for version in ("1", "2"):
        shutil.copytree(base_path / "1", base / version)
    both = VersionPolicy(specific=frozenset({1, 2}))
    with ModelServer(Flags(port=0), [Model("shapes", base, both, {"stable": 1, "canary": 2})]) as server:
        yield server.target


@pytest.fixture
def ask(address):
    clients = []

    def ask(**version):
        clients.append(connect(address, **version))
        return clients[-1]

    yield ask
    for client in clients:
        client.close()


@pytest.mark.parametrize(
    ("spec", "version"),
    [({}, 2), ({"version": 1}, 1), ({"version": 2}, 2), ({"label": "stable"}, 1), ({"label": "canary"}, 2)],
)
def test_the_version_that_was_asked_for_answers(ask, spec, version):
    client = ask(**spec)
    assert client.ready() == version
    assert client.served().version == version
    assert predict(client)[1].version == version


@pytest.mark.parametrize(
    ("spec", "message"), [({"label": "none"}, "must know the version label"), ({"version": 3}, "must serve model")]
)
def test_a_version_that_is_not_there(ask, spec, message):
    client = ask(**spec, deadline_s=2.0)
    with pytest.raises(ModelUnavailable, match=message):
        predict(client)
    with pytest.raises(ModelUnavailable, match=message):
        client.ready()
