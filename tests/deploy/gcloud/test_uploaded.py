"""What function.sh uploads, where it will run: with its own requirements alone, and with the very settings of its call.

Before it stands what it meets in the cloud: a front door that wants an ID token over TLS, a metadata server that gives
one, and the bundled model behind them, under the label that model.sh writes.
"""

import http.client
import json
import shutil
import subprocess
import venv

import pytest

from deploy.local import exports
from deploy.local.photo import write_photo
from deploy.local.stack import free_ports
from deploy.model_server.flags import Flags
from deploy.model_server.models import Model
from deploy.model_server.server import ModelServer
from deploy.models.shapes import coins, evaluate
from deploy.tools.processes import environment
from tests.deploy.gcloud.conftest import ROOT, deployment, option
from tests.deploy.gcloud.fake_gcloud import pairs
from tests.deploy.local.test_demo import instances
from tests.http.conftest import wait_for
from tests.support.certificates import Authority
from tests.support.front_door import FrontDoor, MetadataServer, front_door, metadata_server


@pytest.fixture
def base(tmp_path):
    exports.ensure(ROOT / "build", tmp_path / "logs", ("int8",))
    return exports.base_path(ROOT / "build", "int8")


@pytest.fixture
def call(cloud, base):
    """Return the call that uploads, after one that deploys the model."""
    cloud.done("model", "--model", str(base))
    return deployment(cloud.done("function"))


@pytest.fixture
def settings(call, base, tmp_path):
    """Yield the settings of the call, with addresses of servers here instead of the cloud's."""
    given = pairs(option(call, "set-env-vars"))
    authority = Authority(tmp_path / "authority")
    pair = authority.issue("127.0.0.1")
    version = max(int(folder.name) for folder in base.iterdir() if folder.name.isdigit())
    models = [Model(given["MODEL_NAME"], base, labels={"stable": version})]
    state = MetadataServer(pair.key, pair.cert)
    with ModelServer(Flags(port=0, enable_serialization_as_tensor_content=True), models) as server:
        door = FrontDoor(given["TF_SERVING_AUDIENCE"], pair.cert, server.target)
        with front_door(door, pair) as address, metadata_server(state) as metadata:
            here = {"TF_SERVING_ADDRESS": address, "TF_SERVING_CA_FILE": str(authority.file)}
            yield {**given, **here, "GCE_METADATA_HOST": metadata, "GCE_METADATA_IP": metadata}
            assert door.passed == 2  # the contract and the photograph
            assert len(state.given) == 1


def test_it_segments_a_photograph(call, settings, tmp_path):
    folder = shutil.copytree(option(call, "source"), tmp_path / "uploaded")
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv/bin/python"
    pip = [python, "-m", "pip", "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "-q", "-r", folder / "requirements.txt"], check=True, timeout=600)
    subprocess.run([*pip, "check"], check=True, timeout=60)  # as the buildpack does

    (port,) = free_ports(1)
    command = [python, "-m", "functions_framework", f"--target={option(call, 'function')}", "--host=127.0.0.1"]
    variables = environment({**settings, "PORT": str(port), "PYTHONDONTWRITEBYTECODE": "1"})
    log = tmp_path / "function.log"
    with log.open("wb") as sink:
        process = subprocess.Popen(command, cwd=folder, env=variables, stdout=sink, stderr=subprocess.STDOUT)
    try:
        wait_for(port, process, log)
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("POST", "/", write_photo(tmp_path / "coins.png").read_bytes())
        response = connection.getresponse()
        answer = json.loads(response.read())
        connection.close()
    finally:
        process.terminate()
        process.wait(20)
    assert response.status == 200, answer
    found = evaluate.count_coins(tuple(instances(answer)), coins.truth((303, 384)))
    assert found["found"] >= 23, found
