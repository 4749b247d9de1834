"""TensorFlow Serving's flags and models.config, read by the stand-in where it knows them."""

import copy

import pytest

from handler.config import Config

from .rendered import FUNCTION, OVERLAYS, SERVING, environment, kind, milli, pods_of
from .told import OTHERS, parsed, served

EACH = pytest.mark.parametrize(
    ("overlay", "pod"),
    [
        pytest.param(overlay, pod, id=f"{overlay}, {pod.workload['kind']}")
        for overlay in OVERLAYS
        for pod in pods_of(overlay, SERVING)
    ],
)


@EACH
def test_the_program_is_started_without_the_entrypoint_that_opens_rest(overlay, pod):
    assert pod.main["command"] == ["tensorflow_model_server"]
    assert all(argument.startswith("--") and "=" in argument for argument in pod.main["args"])
    assert not any("rest_api" in argument for argument in pod.main["args"])


@EACH
def test_every_flag_is_one_of_tf_serving(overlay, pod):
    known, _ = parsed(overlay, pod)
    assert [port["containerPort"] for port in pod.main["ports"]] == [known.port] == [8500]
    assert known.enable_grpc_healthcheck_service
    assert known.enable_serialization_as_tensor_content
    assert known.allow_version_labels_for_unavailable_models


@EACH
def test_every_flag_is_given_once(overlay, pod):
    names = [argument.split("=")[0] for argument in pod.main["args"]]
    assert len(names) == len(set(names))


@EACH
def test_threads_follow_the_containers_processors(overlay, pod):
    _, others = parsed(overlay, pod)
    cores = milli(pod.main["resources"]["limits"]["cpu"]) / 1000
    assert others["tensorflow_intra_op_parallelism"] == others["tensorflow_inter_op_parallelism"] == cores


def test_one_server_has_more_threads_than_the_fewest_pods_of_the_function_make_calls():
    (serving,), (function,) = pods_of("plain", SERVING), pods_of("plain", FUNCTION)
    least = kind("plain", "HorizontalPodAutoscaler")[FUNCTION]["spec"]["minReplicas"]
    variables = environment(function, "plain")
    calls = least * int(variables["WORKERS"]) * Config.from_environ(variables).model_concurrency
    assert parsed("plain", serving)[0].grpc_max_threads > calls


@EACH
def test_models_config_serves_what_the_function_asks_for(overlay, pod, tmp_path):
    by_name = {model.name: model for model in served(overlay, pod, tmp_path)}
    for function in pods_of(overlay, FUNCTION):
        config = Config.from_environ(environment(function, overlay))
        assert config.model_version_label in by_name[config.model_name].labels


@EACH
def test_models_lie_where_they_are_mounted_for_reading(overlay, pod, tmp_path):
    mounts = [mount for mount in pod.main["volumeMounts"] if mount.get("readOnly")]
    for model in served(overlay, pod, tmp_path):
        assert any(model.base_path.is_relative_to(mount["mountPath"]) for mount in mounts)


def test_kserve_gives_the_flags_of_the_base():
    (base,), (kserve,) = pods_of("plain", SERVING), pods_of("kserve", SERVING)
    assert kserve.main["args"] == base.main["args"]
    for field in ("command", "image", "lifecycle", "livenessProbe", "readinessProbe", "resources", "startupProbe"):
        assert kserve.main[field] == base.main[field]


def test_a_flag_that_nobody_knows_is_refused():
    (pod,) = copy.deepcopy(pods_of("plain", SERVING))
    assert set(parsed("plain", pod)[1]) == set(OTHERS)
    pod.main["args"].append("--model_config_files=/etc/tf-serving/models.config")
    with pytest.raises(KeyError):
        parsed("plain", pod)
