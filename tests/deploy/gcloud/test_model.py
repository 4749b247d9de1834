"""TensorFlow Serving on a cloud: what is called, what is uploaded, and who may call it."""

from pathlib import Path

from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from deploy.model_server import flags
from tests.deploy.gcloud.conftest import ROOT, calls, deployment, option

ACCOUNT = "tf-serving@a-project.iam.gserviceaccount.com"
FIRST = """
services enable run.googleapis.com storage.googleapis.com
iam service-accounts create tf-serving '--display-name=segment: TensorFlow Serving'
iam service-accounts create segment '--display-name=segment: the function'
storage buckets create gs://a-project-models --location=europe-west4 --uniform-bucket-level-access
    --public-access-prevention
storage buckets add-iam-policy-binding gs://a-project-models --member=serviceAccount:{account}
    --role=roles/storage.objectViewer --condition=None --format=none
storage rsync --recursive --checksums-only '{model}/1' gs://a-project-models/shapes/1
storage cp {root}/build/gcloud/{config} gs://a-project-models/{config}
run deploy tf-serving --image=docker.io/tensorflow/serving:2.21.0 --command=tensorflow_model_server
    --args=--port=8500,--model_config_file=/models/{config},--allow_version_labels_for_unavailable_models=true,{more}
    --execution-environment=gen2 --port=8500 --use-http2 --cpu-boost --ingress=internal --no-allow-unauthenticated
    --add-volume=name=models,type=cloud-storage,bucket=a-project-models,readonly=true
    --add-volume-mount=volume=models,mount-path=/models
    --startup-probe=grpc.port=8500,periodSeconds=5,timeoutSeconds=4,failureThreshold=48 --gpu=0
    --service-account={account} --cpu=4 --memory=8Gi --concurrency=8 --timeout=60s --min-instances=0 --max-instances=5
    --update-labels=segment-made-by=deploy
run services add-iam-policy-binding tf-serving --member=serviceAccount:segment@a-project.iam.gserviceaccount.com
    --role=roles/run.invoker --condition=None --format=none
"""
MORE = "--enable_grpc_healthcheck_service=true,--grpc_max_threads=1024,--enable_serialization_as_tensor_content=true"


def test_the_calls_of_a_first_deployment_and_of_the_next(cloud, model):
    names = {"account": ACCOUNT, "model": model.removeprefix("--model="), "root": ROOT, "more": MORE}
    first = calls(FIRST, config="tf-serving-shapes-1-1.config", **names)
    assert cloud.done("model", model, "--stable=1") == first
    made = cloud.done("model", "--stable=1")
    assert made == [call for call in first if "create" not in call and "rsync" not in call]


def test_a_run_after_one_that_failed_goes_on(cloud, model):
    cloud.change(fails={"storage buckets add-iam-policy-binding": 6})
    finished = cloud.run("model", model)
    assert finished.returncode == 2
    assert f"serviceAccount:{ACCOUNT} must get roles/storage.objectViewer, got a refusal 6 times" in finished.stderr
    cloud.change(fails={"storage buckets add-iam-policy-binding": 3, "run deploy": 1})
    assert cloud.run("model", model).returncode == 1
    assert cloud.done("model", model)[-1][:4] == ["run", "services", "add-iam-policy-binding", "tf-serving"]


def labelled(made):
    """Return versions and labels of the configuration that these calls upload and the server then reads."""
    *_, upload, update = made
    assert upload[3] == option(update, "args").split(",")[1].replace(
        "--model_config_file=/models", "gs://a-project-models"
    )
    text = Path(upload[2]).read_text()
    (one,) = text_format.Parse(text, model_server_config_pb2.ModelServerConfig()).model_config_list.config
    assert (one.name, one.base_path, one.model_platform) == ("shapes", "/models/shapes", "tensorflow")
    return list(one.model_version_policy.specific.versions), dict(one.version_labels)


def test_a_canary_its_promotion_and_the_way_back_are_labels(cloud, model):
    cloud.done("model", model, "--stable=1", "--gpu=nvidia-l4", "--min=1")
    made = cloud.done("model", "label", model, "--stable=1", "--canary=2")
    assert [call[1] for call in made] == ["rsync", "rsync", "cp", "services"]
    assert made[-1][:-1] == ["run", "services", "update", "tf-serving"]  # and --args: GPU and instances stay
    assert labelled(made) == ([1, 2], {"stable": 1, "canary": 2})
    assert labelled(cloud.done("model", "label", "--stable=2")) == ([2], {"stable": 2, "canary": 2})
    assert labelled(cloud.done("model", "label", "--stable=1")) == ([1], {"stable": 1, "canary": 1})


def test_a_gpu(cloud, model):
    call = deployment(cloud.done("model", model, "--gpu=nvidia-l4"))
    assert {"--gpu=1", "--gpu-type=nvidia-l4", "--memory=16Gi", "--no-cpu-throttling"} <= set(call)
    assert option(call, "image") == "docker.io/tensorflow/serving:2.21.0-gpu"
    assert "--cpu must be at least 4 with a GPU, got '2'" in cloud.refused("model", model, "--gpu=nvidia-l4", "--cpu=2")


def test_the_server_knows_its_flags(cloud, model):
    given = option(deployment(cloud.done("model", model)), "args").split(",")
    parsed = flags.parse(given)
    assert (parsed.port, parsed.enable_grpc_healthcheck_service) == (8500, True)


def test_a_model_that_is_not_there_is_refused(cloud, model, tmp_path):
    assert "--model must be a folder" in cloud.refused("model", f"--model={tmp_path / 'none'}")
    for arguments in ((), (f"--model={tmp_path}",)):
        assert "--stable must be the number of a version, or --model" in cloud.refused("model", *arguments)
    assert "--canary must be another version" in cloud.refused("model", model, "--canary=2")
    assert "--name must name what is there already, got 'tf-serving'" in cloud.refused("model", "label", "--stable=1")
    finished = cloud.run("model", "--stable=9")
    assert "--model must name what is there already, got 'gs://a-project-models/shapes/9/" in finished.stderr
    assert "run services tf-serving" not in cloud.state["there"]


def test_tear_down(cloud, model):
    cloud.done("model", model)
    cloud.change(says={"run services list": "tf-serving"})  # in another region
    assert cloud.done("model", "delete") == calls("run services delete tf-serving")
    cloud.change(says={})
    assert cloud.done("model", "delete") == calls(f"iam service-accounts delete {ACCOUNT}")
    assert cloud.done("model", "delete", "--with-bucket") == calls("storage rm --recursive gs://a-project-models")
    assert cloud.done("model", "delete", "--with-bucket") == []
