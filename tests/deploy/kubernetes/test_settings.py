"""What the function is told: names that it reads, values that it takes, and what they point at."""

import copy
import re

import pytest

from handler.config import Config
from tests.support.settings import VARIABLES

from .rendered import FUNCTION, KUBERNETES, NAMESPACE, OVERLAYS, SERVING, TRACK, environment, pods_of, services

FRAMEWORK = {"PORT", "WORKERS", "THREADS", "LOG_EXECUTION_ID"}
MERGED = """
resources: [BASE/base]
components: [BASE/components/canary]
configMapGenerator:
  - {name: segment-settings, namespace: segment, behavior: merge, literals: ["CORS_ORIGINS=https://example.com"]}
"""
KEYS = {"segment-api-keys": {"keys": "first-key,second-key"}}

EACH = pytest.mark.parametrize(
    ("overlay", "pod"),
    [
        pytest.param(overlay, pod, id=f"{overlay}, {pod.track}")
        for overlay in OVERLAYS
        for pod in pods_of(overlay, FUNCTION)
    ],
)


@EACH
def test_the_function_reads_every_variable_that_is_set(overlay, pod):
    assert environment(pod, overlay, KEYS).keys() <= VARIABLES | FRAMEWORK


@EACH
def test_the_function_takes_the_values(overlay, pod):
    assert Config.from_environ(environment(pod, overlay)).api_keys == ()
    assert Config.from_environ(environment(pod, overlay, KEYS)).api_keys == ("first-key", "second-key")


@EACH
def test_the_address_is_that_of_the_headless_service(overlay, pod):
    host, port = Config.from_environ(environment(pod, overlay)).tf_serving_address.removeprefix("dns:///").split(":")
    service = services(overlay)[host]
    assert host == SERVING
    assert service["spec"]["clusterIP"] == "None"
    assert [one["port"] for one in service["spec"]["ports"]] == [int(port)]


@EACH
def test_the_label_is_the_tracks(overlay, pod):
    assert Config.from_environ(environment(pod, overlay)).model_version_label == pod.track


@EACH
def test_the_image_names_a_folder_for_gunicorns_socket_that_can_be_written(overlay, pod):
    dockerfile = (KUBERNETES.parent / "container" / "Dockerfile").read_text()
    (folder,) = re.findall(r"\bXDG_RUNTIME_DIR=(\S+)", dockerfile)
    (mount,) = [mount for mount in pod.main["volumeMounts"] if mount["mountPath"] == folder]
    assert not mount.get("readOnly")


def test_settings_of_an_overlay_reach_the_canary_as_well():
    pods = {pod.track: pod for pod in pods_of(MERGED, FUNCTION)}
    assert pods.keys() == {"stable", "canary"}
    for track, pod in pods.items():
        config = Config.from_environ(environment(pod, MERGED))
        assert (config.cors_origins, config.model_version_label) == (("https://example.com",), track)


def test_a_canary_differs_from_the_stable_pods_in_nothing_but_its_label_and_track():
    pods = {pod.track: copy.deepcopy(pod) for pod in pods_of("canary", FUNCTION)}
    stable, canary = pods["stable"], pods["canary"]
    assert canary.main["env"].pop(0) == {"name": "MODEL_VERSION_LABEL", "value": "canary"}
    for pod in (stable, canary):
        for constraint in pod.spec["topologySpreadConstraints"]:
            constraint["labelSelector"]["matchLabels"].pop(TRACK, None)
    assert canary.spec == stable.spec


@EACH
def test_every_request_that_is_let_in_finds_a_thread_and_so_does_a_probe(overlay, pod):
    variables = environment(pod, overlay)
    calls = Config.from_environ(variables).model_concurrency
    assert int(variables["THREADS"]) > pod.spec.get("containerConcurrency", calls) >= calls
    assert ("containerConcurrency" in pod.spec) == (overlay == "knative")


def test_tls_names_what_is_mounted():
    (pod,) = pods_of("mtls", FUNCTION)
    tls = Config.from_environ(environment(pod, "mtls")).tls
    (mount,) = [mount for mount in pod.main["volumeMounts"] if mount["name"] == "tls"]
    assert "subPath" not in mount, "a file that is mounted alone is never renewed"
    held = {f"{mount['mountPath']}/{name}" for name in ("ca.crt", "tls.crt", "tls.key")}
    assert {tls.ca_file, tls.cert_file, tls.key_file} == held
    assert tls.server_name == f"{SERVING}.{NAMESPACE}.svc"


def test_only_mutual_tls_sets_tls():
    for overlay in OVERLAYS:
        for pod in pods_of(overlay, FUNCTION):
            has_tls = Config.from_environ(environment(pod, overlay)).tls is not None
            assert has_tls is (overlay in ("mtls", "base with all components"))
