"""The pods: their images, their rights, and what they may use."""

import re

import pytest

from deploy.bundle import pins

from .rendered import FUNCTION, OVERLAYS, SERVING, bytes_of, documents, environment, kind, milli, pods, pods_of

EACH_WITH_CONTAINERS = pytest.mark.parametrize(
    ("overlay", "pod", "container"),
    [
        pytest.param(overlay, pod, container, id=f"{overlay}, {pod.workload['metadata']['name']}, {container['name']}")
        for overlay in OVERLAYS
        for pod in pods(overlay)
        for container in pod.containers
    ],
)
EACH = pytest.mark.parametrize(
    ("overlay", "pod"),
    [
        pytest.param(overlay, pod, id=f"{overlay}, {pod.workload['metadata']['name']}")
        for overlay in OVERLAYS
        for pod in pods(overlay)
    ],
)
WORKER_BYTES = 260_000_000  # 16 clients at once with photographs of 12 megapixels


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_there_are_pods_of_the_function_and_of_tf_serving(overlay):
    assert {pod.labels["app.kubernetes.io/name"] for pod in pods(overlay)} == {FUNCTION, SERVING}


@EACH_WITH_CONTAINERS
def test_images_are_pinned_to_a_tag(overlay, pod, container):
    name, tag = container["image"].rsplit(":", 1)
    assert re.fullmatch(r"\d+\.\d+\.\d+(-gpu)?", tag)
    if name == "tensorflow/serving":
        (api,) = [line for line in pins.direct() if line.startswith("tensorflow-serving-api==")]
        assert tag.removesuffix("-gpu") == api.split("==")[1]


def test_the_gpu_image_goes_with_a_gpu():
    for overlay in OVERLAYS:
        for pod in pods_of(overlay, SERVING):
            gpus = pod.main["resources"]["limits"].get("nvidia.com/gpu", 0)
            assert gpus == pod.main["resources"]["requests"].get("nvidia.com/gpu", 0)
            assert pod.main["image"].endswith("-gpu") is bool(gpus)
    assert pods_of("gpu", SERVING)[0].main["image"].endswith("-gpu")


@EACH_WITH_CONTAINERS
def test_containers_have_the_rights_of_pod_security_restricted_and_fewer(overlay, pod, container):
    rights = {**pod.spec.get("securityContext", {}), **container["securityContext"]}
    assert rights["runAsNonRoot"] is True
    assert rights["runAsUser"] == rights["runAsGroup"] == 10001
    assert rights["seccompProfile"] == {"type": "RuntimeDefault"}
    assert rights["allowPrivilegeEscalation"] is False
    assert rights["readOnlyRootFilesystem"] is True
    assert rights["capabilities"] == {"drop": ["ALL"]}
    assert "privileged" not in rights


@EACH
def test_pods_have_an_identity_of_their_own_without_a_token(overlay, pod):
    account = kind(overlay, "ServiceAccount", name=pod.spec["serviceAccountName"])
    assert account["automountServiceAccountToken"] is False
    assert pod.spec["automountServiceAccountToken"] is False
    assert account["metadata"]["name"] == pod.labels["app.kubernetes.io/name"]


@EACH
def test_no_variables_come_from_services(overlay, pod):
    assert pod.spec["enableServiceLinks"] is False


@EACH
def test_pods_use_nothing_of_the_node(overlay, pod):
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod.spec)
    sources = [set(volume) - {"name"} for volume in pod.spec["volumes"]]
    assert set().union(*sources) <= {"configMap", "emptyDir", "persistentVolumeClaim", "secret"}
    for volume in pod.spec["volumes"]:
        assert "sizeLimit" in volume.get("emptyDir", {"sizeLimit": None})


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_namespace_enforces_the_same_rights(overlay):
    labels = kind(overlay, "Namespace", name="segment")["metadata"]["labels"]
    assert {labels[f"pod-security.kubernetes.io/{mode}"] for mode in ("enforce", "audit", "warn")} == {"restricted"}


@EACH_WITH_CONTAINERS
def test_containers_say_what_they_need_and_what_they_may_take(overlay, pod, container):
    requests, limits = container["resources"]["requests"], container["resources"]["limits"]
    assert 0 < milli(requests["cpu"]) <= milli(limits["cpu"])
    assert 0 < bytes_of(requests["memory"]) <= bytes_of(limits["memory"])


@EACH_WITH_CONTAINERS
def test_mounts_are_of_volumes_that_exist_and_every_volume_is_mounted(overlay, pod, container):
    volumes = {volume["name"] for volume in pod.spec["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
    assert {mount["name"] for one in pod.containers for mount in one["volumeMounts"]} == volumes


@EACH
def test_config_maps_that_are_named_exist_and_each_is_named(overlay, pod):
    text = str([one for one in documents(overlay) if one["kind"] != "ConfigMap"])
    for name in kind(overlay, "ConfigMap"):
        assert re.search(r"-[0-9a-z]{10}$", name), "the name must follow the content"
        assert f"'{name}'" in text
    for volume in pod.spec["volumes"]:
        if "configMap" in volume:
            assert volume["configMap"]["name"] in kind(overlay, "ConfigMap")


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_memory_and_processors_are_enough_for_the_workers(overlay):
    for pod in pods_of(overlay, FUNCTION):
        workers = int(environment(pod, overlay)["WORKERS"])
        requests, limits = pod.main["resources"]["requests"], pod.main["resources"]["limits"]
        temporary = [volume["emptyDir"] for volume in pod.spec["volumes"] if "emptyDir" in volume]
        in_memory = sum(bytes_of(one["sizeLimit"]) for one in temporary if one.get("medium") == "Memory")
        assert bytes_of(requests["memory"]) >= workers * WORKER_BYTES + in_memory
        assert milli(requests["cpu"]) >= workers * 1000
        assert milli(limits["cpu"]) >= milli(requests["cpu"])
