"""TensorFlow Serving on a cloud: what is called, what is uploaded, and who may call it."""

import re
import shlex
from pathlib import Path

from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from deploy.model_server import flags
from tests.deploy.gcloud.conftest import ROOT, calls

ACCOUNT = "tf-serving@a-project.iam.gserviceaccount.com"
CALLER = "segment@a-project.iam.gserviceaccount.com"
KNOWN_TO_THE_REAL_ONE = {"allow_version_labels_for_unavailable_models"}
FIRST = """
services enable run.googleapis.com storage.googleapis.com {project} --quiet
iam service-accounts create tf-serving '--display-name=segment: TensorFlow Serving' {project} --quiet
iam service-accounts create segment '--display-name=segment: the function' {project} --quiet
storage buckets create gs://a-project-models {project} --location=europe-west4 --uniform-bucket-level-access
    --public-access-prevention --quiet
storage buckets add-iam-policy-binding gs://a-project-models --member=serviceAccount:{account}
    --role=roles/storage.objectViewer --format=none --quiet
storage rsync --recursive --checksums-only '{model}/1' gs://a-project-models/shapes/1 --quiet
storage cp {root}/build/gcloud/{config} gs://a-project-models/{config} --quiet
run deploy tf-serving --image=docker.io/tensorflow/serving:2.21.0 --command=tensorflow_model_server --args={args}
    {project} {region} --service-account={account} --execution-environment=gen2 --port=8500 --use-http2
    --add-volume=name=models,type=cloud-storage,bucket=a-project-models,readonly=true
    --add-volume-mount=volume=models,mount-path=/models --cpu=4 --memory=8Gi --concurrency=8 --timeout=60s --cpu-boost
    --min-instances=0 --max-instances=5 --ingress=internal --no-allow-unauthenticated
    --startup-probe=grpc.port=8500,periodSeconds=5,timeoutSeconds=4,failureThreshold=48 --gpu=0
    --update-labels={labels} --quiet
run services add-iam-policy-binding tf-serving {project} {region} --member=serviceAccount:{caller}
    --role=roles/run.invoker --format=none --quiet
"""
ARGS = (
    "--port=8500,--model_config_file=/models/{config},--allow_version_labels_for_unavailable_models=true,"
    "--enable_grpc_healthcheck_service=true,--enable_serialization_as_tensor_content=true"
)


def config(cloud):
    """Return versions and labels of the configuration that the deployed service reads."""
    args = dict(flag.removeprefix("--").split("=", 1) for flag in cloud.state["run"]["tf-serving"]["args"].split(","))
    text = (cloud.folder / "bucket/a-project-models" / Path(args["model_config_file"]).name).read_text()
    (one,) = text_format.Parse(text, model_server_config_pb2.ModelServerConfig()).model_config_list.config
    assert (one.name, one.base_path) == ("shapes", "/models/shapes")
    assert set(one.version_labels.values()) <= set(one.model_version_policy.specific.versions)
    return list(one.model_version_policy.specific.versions), dict(one.version_labels)


def test_the_calls_of_a_first_deployment(cloud, model):
    made = cloud.done("model", "--model", str(model), "--stable=1")
    labels = made[7][-2].removeprefix("--update-labels=")
    assert re.fullmatch(r"segment-deployed=model-\d+", labels)
    file = Path(made[6][2]).name
    assert re.fullmatch(r"tf-serving-\d+\.config", file)
    names = {"account": ACCOUNT, "caller": CALLER, "model": model, "root": ROOT, "labels": labels, "config": file}
    assert made == calls(FIRST, args=ARGS.format(config=file), **names)
    assert config(cloud) == ([1], {"stable": 1, "canary": 1})
    assert (cloud.folder / "bucket/a-project-models/shapes/1/saved_model.pb").read_text() == "version 1"


def test_only_the_function_may_call_it(cloud, model):
    cloud.done("model", "--model", str(model))
    assert cloud.state["policies"]["run services tf-serving"] == [[f"serviceAccount:{CALLER}", "roles/run.invoker"]]


def test_a_service_that_is_open_all_the_same_is_told(cloud, model):
    cloud.done("model", "--model", str(model))
    policies = cloud.state["policies"]
    policies["run services tf-serving"].append(["allUsers", "roles/run.invoker"])
    cloud.change(policies=policies)
    finished = cloud.run("model", "--model", str(model))
    assert finished.returncode == 2
    assert "tf-serving must be private, got a policy that lets everyone in:\nroles/run.invoker" in finished.stderr


def test_a_second_run_changes_nothing(cloud, model):
    cloud.done("model", "--model", str(model), "--canary=1")
    before = cloud.snapshot()
    again = cloud.done("model", "--model", str(model), "--canary=1")
    assert [call[:2] for call in again] == [["storage", "rsync"]] * 2  # which copies what differs, so nothing
    assert cloud.snapshot() == before
    assert cloud.done("model", "--stable=2", "--canary=1") == []
    assert cloud.snapshot() == before


def test_a_run_after_one_that_failed_goes_on(cloud, model):
    cloud.change(unknown_for=3, fails=True)
    finished = cloud.run("model", "--model", str(model))
    assert finished.returncode == 1  # that of gcloud, whose revision did not become ready
    made = cloud.done("model", "--model", str(model))
    assert [call[:2] for call in made] == [["storage", "rsync"], ["run", "deploy"], ["run", "services"]]
    assert cloud.serving("tf-serving") == [["tf-serving-00002", 100, ""]]


def test_an_account_that_stays_unknown_is_told(cloud, model):
    cloud.change(unknown_for=99)
    finished = cloud.run("model", "--model", str(model))
    assert finished.returncode == 2
    assert (
        f"serviceAccount:{ACCOUNT} must be given roles/storage.objectViewer, got a refusal 6 times" in finished.stderr
    )


def test_a_canary_its_promotion_and_the_way_back_are_labels(cloud, model):
    cloud.done("model", "--model", str(model), "--stable=1", "--gpu=nvidia-l4", "--min=1")
    made = cloud.done("model", "label", "--model", str(model), "--stable=1", "--canary=2")
    assert [call[1] for call in made] == ["rsync", "rsync", "cp", "services"]
    (update,) = [call for call in made if call[1] == "services"]
    assert {word.split("=")[0] for word in update if word.startswith("--")} == {
        *("--project", "--region", "--args", "--update-labels", "--quiet")  # so that GPU and instances stay
    }
    assert config(cloud) == ([1, 2], {"stable": 1, "canary": 2})
    assert cloud.done("model", "label", "--stable=1", "--canary=2") == []
    cloud.done("model", "label", "--stable=2")
    assert config(cloud) == ([2], {"stable": 2, "canary": 2})
    assert [call[1] for call in cloud.done("model", "label", "--stable=1")] == ["services"]
    assert config(cloud) == ([1], {"stable": 1, "canary": 1})


def test_versions_that_do_not_load_take_no_traffic(cloud, model):
    cloud.done("model", "--model", str(model), "--stable=1")
    cloud.change(fails=True)
    assert cloud.run("model", "label", "--model", str(model), "--stable=2").returncode == 1
    assert cloud.serving("tf-serving") == [["tf-serving-00001", 100, ""]]
    cloud.done("model", "label", "--stable=2")
    assert cloud.serving("tf-serving") == [["tf-serving-00003", 100, ""]]


def test_labels_need_a_service(cloud):
    finished = cloud.run("model", "label", "--stable=1")
    assert finished.returncode == 2
    assert "--name must be a service of a-project in europe-west4, got 'tf-serving'; deploy it first" in finished.stderr


def test_another_size_is_deployed(cloud, model):
    cloud.done("model", "--model", str(model))
    (made,) = [call for call in cloud.done("model", "--stable=2", "--cpu=8") if call[1] == "deploy"]
    assert "--cpu=8" in made
    assert len(cloud.state["run"]["tf-serving"]["revisions"]) == 2


def test_a_gpu(cloud, model):
    cloud.done("model", "--model", str(model), "--gpu=nvidia-l4")
    (call,) = [call for call in cloud.calls() if call[:2] == ["run", "deploy"]]
    assert {"--gpu=1", "--gpu-type=nvidia-l4", "--memory=16Gi", "--no-cpu-throttling"} <= set(call)
    assert "--image=docker.io/tensorflow/serving:2.21.0-gpu" in call
    message = cloud.refused("model", "--model", str(model), "--gpu=nvidia-l4", "--cpu=2")
    assert "--cpu must be at least 4 with a GPU, got '2'" in message


def test_the_server_is_given_flags_that_it_knows(cloud, model):
    cloud.done("model", "--model", str(model))
    (call,) = [call for call in cloud.calls() if call[:2] == ["run", "deploy"]]
    (text,) = [word.removeprefix("--args=") for word in call if word.startswith("--args=")]
    given = {flag.removeprefix("--").split("=")[0]: flag for flag in text.split(",")}
    assert set(given) > KNOWN_TO_THE_REAL_ONE
    parsed = flags.parse(flag for name, flag in given.items() if name not in KNOWN_TO_THE_REAL_ONE)
    assert (parsed.port, parsed.enable_grpc_healthcheck_service) == (8500, True)


def test_a_model_that_is_not_there_is_refused(cloud, model, tmp_path):
    assert "--model must be a folder" in cloud.refused("model", f"--model={tmp_path / 'none'}")
    assert "--stable must be the number of a version, or --model" in cloud.refused("model")
    assert "--model must hold a version" in cloud.refused("model", f"--model={tmp_path}")
    assert "--canary must be another version" in cloud.refused("model", f"--model={model}", "--canary=2")
    finished = cloud.run("model", "--stable=9")
    assert finished.returncode == 2
    assert "version 9 must be in --model or at gs://a-project-models/shapes/9, got neither" in finished.stderr
    assert "run" not in cloud.state


def test_a_dry_run_prints_the_very_calls_and_makes_none(cloud, model):
    printed = cloud.run("model", "--model", str(model), "--dry-run")
    assert printed.returncode == 0
    assert cloud.calls() == []
    made = cloud.done("model", "--model", str(model))
    assert [shlex.split(line)[1:] for line in printed.stdout.splitlines()] == made


def test_tear_down(cloud, model):
    cloud.done("model", "--model", str(model))
    cloud.change(elsewhere=["tf-serving"])
    assert [call[:2] for call in cloud.done("model", "delete")] == [["run", "services"]]
    cloud.change(elsewhere=[])
    assert [call[:2] for call in cloud.done("model", "delete")] == [["iam", "service-accounts"]]
    assert "run" not in cloud.state
    assert ACCOUNT not in cloud.state["accounts"]
    assert (cloud.folder / "bucket/a-project-models/shapes/2/saved_model.pb").exists()
    assert [call[:2] for call in cloud.done("model", "delete", "--with-bucket")] == [["storage", "rm"]]
    assert cloud.done("model", "delete", "--with-bucket") == []
