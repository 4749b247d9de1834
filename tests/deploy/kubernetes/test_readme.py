"""The commands of deploy/kubernetes/README.md, run as far as they go without a cluster."""

import base64
import copy
import os
import re
import subprocess

import pytest
import yaml

from handler import __version__
from handler.config import Config

from .readme import PAGE, blocks, command
from .rendered import FUNCTION, KUBECTL, KUBERNETES, environment, kind, pods_of
from .schemas import check


def run(line, folder):
    env = {**os.environ, "PATH": f"{KUBECTL.parent}:{os.environ['PATH']}", "KUBECONFIG": str(folder / "none")}
    command = ["bash", "-o", "pipefail", "-c", line]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=60, cwd=folder, env=env)


def secret(keys, folder):
    (folder / "keys.txt").write_text(keys)
    line, applied = command("test -s keys.txt").split(" | ")
    assert applied == "kubectl apply -f -", "which makes it or changes it"
    return run(line, folder)


@pytest.mark.parametrize("keys", ["first-key", "first-key\n", "first-key,second-key\n"])
def test_the_secret_holds_the_keys_of_the_file(keys, tmp_path):
    made = yaml.safe_load(secret(keys, tmp_path).stdout)
    check(made)
    (pod,) = pods_of("plain", FUNCTION)
    assert made["metadata"]["namespace"] == pod.workload["metadata"]["namespace"]
    held = {name: base64.b64decode(value).decode() for name, value in made["data"].items()}
    config = Config.from_environ(environment(pod, "plain", {made["metadata"]["name"]: held}))
    assert config.api_keys == tuple(keys.strip().split(","))


def test_without_keys_in_the_file_no_secret_is_made(tmp_path):
    done = secret("", tmp_path)
    assert done.returncode != 0
    assert done.stdout == ""


def test_no_key_is_on_a_command_line(tmp_path):
    assert "from-literal" not in PAGE
    (tmp_path / "keys.txt").write_text("first-key,second-key\n")
    header, asked = command("sed ").split(" | ")
    assert run(header, tmp_path).stdout == "X-API-Key: first-key\n"
    assert asked.startswith("curl -H @- ")


def test_under_knative_the_patch_makes_a_new_revision(tmp_path):
    service = kind("knative", "Service", "serving.knative.dev", FUNCTION)
    (tmp_path / "service.json").write_text(yaml.safe_dump(service))
    line = command("kubectl -n segment patch services.serving.knative.dev segment ")
    local = line.replace("services.serving.knative.dev segment", "--local -f service.json -o yaml")
    patched = yaml.safe_load(run(local, tmp_path).stdout)
    check(patched)
    expected = copy.deepcopy(service)
    annotations = patched["spec"]["template"]["metadata"]["annotations"]
    (new,) = annotations.keys() - service["spec"]["template"]["metadata"]["annotations"].keys()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", annotations[new])
    expected["spec"]["template"]["metadata"]["annotations"][new] = annotations[new]
    assert patched == expected


def test_every_image_that_the_overlays_name_is_built_and_pushed_first():
    text = "".join(blocks("sh"))
    built = set(re.findall(r"docker build .*-t (\S+)", text))
    assert built == set(re.findall(r"docker push (\S+)", text))
    assert {f"$R/segment:{__version__}", "$R/segment-models:1.0.0", "$R/segment-models:1.1.0"} == built


def test_files_that_commands_name_exist():
    named = re.findall(r"(?:-f|-k) (deploy/\S+)", "".join(blocks("sh")))
    assert len(named) >= 4
    for path in named:
        assert (KUBERNETES.parents[1] / path).exists()


def test_python_is_that_of_make_setup():
    programs = re.findall(r"(\S*)python -m deploy", PAGE)
    assert set(programs) == {".venv/bin/"}


def test_the_restart_selects_every_deployment_of_the_function():
    label, value = command("kubectl -n segment rollout restart deployment -l ").split(" -l ")[1].split("=")
    names = {
        name for name, one in kind("canary", "Deployment").items() if one["metadata"]["labels"].get(label) == value
    }
    assert names == {"segment", "segment-canary"}
