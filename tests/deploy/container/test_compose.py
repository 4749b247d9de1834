"""compose.yaml: who may reach whom, with what rights; and that each program takes what it is given."""

import re
import socket
import subprocess
from pathlib import Path

import functions_framework
import pytest
import yaml

from deploy.bundle import pins
from deploy.model_server import flags
from deploy.model_server.models import models_from_file
from handler.config import Config
from tests.deploy.container import dockerfile
from tests.http import scenes
from tests.support.settings import VARIABLES

FOLDER = dockerfile.DOCKERFILE.parent
TEXT = (FOLDER / "compose.yaml").read_text(encoding="utf-8")
COMPOSE = yaml.safe_load(re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", TEXT))
SERVICES = COMPOSE["services"]
FUNCTION, MODEL = SERVICES["function"], SERVICES["model"]
SERVING_PORT = 8500
OF_PYTHON = {"PATH", "PYTHONUNBUFFERED"}
OF_GUNICORN = {"XDG_RUNTIME_DIR"}


def framework_variables():
    """Return the variables that functions-framework reads, out of its source."""
    sources = Path(functions_framework.__file__).parent.rglob("*.py")
    reads = r"""(?:environ\.get\(|envvar=)"(\w+)\""""
    return {name for source in sources for name in re.findall(reads, source.read_text(encoding="utf-8"))}


def test_every_setting_is_one_that_somebody_reads_and_takes():
    given = {**dockerfile.settings(), **FUNCTION["environment"]}
    assert all(isinstance(value, str | int) for value in given.values())
    assert set(FUNCTION["environment"]) <= VARIABLES | framework_variables()
    assert set(dockerfile.settings()) <= VARIABLES | framework_variables() | OF_PYTHON | OF_GUNICORN
    config = Config.from_environ({name: str(value) for name, value in given.items()})
    assert config.tf_serving_address == f"dns:///model:{SERVING_PORT}"
    assert config.api_keys == ()


def test_every_variable_is_explained_at_the_top():
    variables = set(re.findall(r"\$\{(\w+)", TEXT))
    assert variables
    assert variables <= set(re.findall(r"[A-Z_]+", TEXT.partition("\nname:")[0]))


def test_tensorflow_serving_is_of_the_version_that_the_messages_are_of():
    (version,) = [line.split("==")[1] for line in pins.direct() if line.startswith("tensorflow-serving-api==")]
    assert MODEL["image"] == f"tensorflow/serving:{version}"


@pytest.mark.parametrize("service", SERVICES.values(), ids=SERVICES)
def test_a_service_has_no_rights_that_it_does_not_need(service):
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    user = service.get("user", dockerfile.named("USER")[0])
    assert all(int(part) > 0 for part in user.split(":"))
    assert {"cpus", "memory", "pids"} == set(service["deploy"]["resources"]["limits"])
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    assert all(volume["read_only"] for volume in service.get("volumes", []))
    assert not {"privileged", "network_mode", "pid", "ipc", "cap_add", "devices"} & set(service)


def test_the_function_alone_reaches_the_model():
    assert [name for name, service in SERVICES.items() if "model" in service["networks"]] == ["function", "model"]
    assert MODEL["networks"] == ["model"]
    assert FUNCTION["depends_on"] == {"model": {"condition": "service_healthy"}}


def test_it_builds_the_bundle_by_the_dockerfile():
    context = (FOLDER / FUNCTION["build"]["context"]).resolve()
    assert context == dockerfile.ROOT / "build" / "function"
    assert (context / FUNCTION["build"]["dockerfile"]).resolve() == dockerfile.DOCKERFILE


def mounted(path):
    """Return where a path of the model's container comes from, in the checkout."""
    (source,) = [volume["source"] for volume in MODEL["volumes"] if volume["target"] == str(path)]
    return FOLDER / source


def test_the_model_server_takes_its_flags_and_serves_what_the_function_asks_for():
    assert MODEL["entrypoint"] == ["tensorflow_model_server"]
    given = flags.parse(MODEL["command"])
    assert given.port == SERVING_PORT
    environment = FUNCTION["environment"]
    assert given.grpc_max_threads > int(environment["WORKERS"]) * int(environment["MODEL_CONCURRENCY"])
    assert int(environment["THREADS"]) > int(environment["MODEL_CONCURRENCY"])
    assert MODEL["ports"][0].endswith(f":{SERVING_PORT}")
    served = models_from_file(mounted(given.model_config_file))
    assert [model.name for model in served] == [FUNCTION["environment"]["MODEL_NAME"]]
    for_contract = models_from_file(FOLDER / "contract.config")
    assert [model.name for model in for_contract] == [served[0].name, scenes.NAME]
    assert all(model.base_path == Path("/models", model.name) for model in for_contract)
    assert mounted("/models").resolve() == dockerfile.ROOT / "build" / "models"


def test_the_models_health_check_tells_whether_its_port_is_open():
    kind, *check = MODEL["healthcheck"]["test"]
    assert kind == "CMD"
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        here = [part.replace(f"/{SERVING_PORT}", f"/{port}") for part in check]
        assert here != check
        assert subprocess.run(here, check=False).returncode == 0
    assert subprocess.run(here, check=False, stderr=subprocess.DEVNULL).returncode != 0
