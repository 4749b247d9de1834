"""From one version of the model to the next: labels, versions and images that fit, and mistakes that are refused."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from handler import __version__

from .readme import block
from .rendered import COMBINED, FUNCTION, KUBERNETES, OVERLAYS, SERVING, pods_of
from .told import models_config, read, served

HELD = {"1.0.0": {1}, "1.1.0": {1, 2}}  # the versions in an image segment-models of that tag, as README.md says
COPYING = [overlay for overlay in OVERLAYS if overlay != "kserve"]  # which mounts a claim
NOT_LOADED = """
model_config_list {
  config {
    name: "shapes"
    base_path: "/mnt/models/shapes"
    model_platform: "tensorflow"
    model_version_policy { specific { versions: 1 } }
    version_labels { key: "stable" value: 2 }
    version_labels { key: "canary" value: 2 }
  }
}
"""


def pod_of(overlay):
    """Return the one pod that serves the model."""
    (pod,) = pods_of(overlay, SERVING)
    return pod


def unfit(model):
    """Return the labels that name no version that is loaded."""
    return {label for label, version in model.labels.items() if version not in model.policy.specific}


def with_models_config(overlay, text):
    """Write an overlay over one of ours, with another models.config."""
    replaced = {"name": "tf-serving-models", "namespace": "segment", "behavior": "replace"}
    generated = {**replaced, "literals": [f"models.config={text}"]}
    return yaml.safe_dump({"resources": [f"BASE/overlays/{overlay}"], "configMapGenerator": [generated]})


def models_container(overlay):
    (pod,) = pods_of(overlay, SERVING)
    (found,) = [container for container in pod.containers if container["name"] == "models"]
    return found


def start(overlay, config, held, folder):
    """Run the script of the init container over an image that holds ``held`` versions; returns it and what it wrote."""
    for version in held:
        (folder / "image" / "shapes" / str(version)).mkdir(parents=True)
        (folder / "image" / "shapes" / str(version) / "saved_model.pb").write_text("x")
    (folder / "mnt").mkdir()
    container = models_container(overlay)
    (script,) = container["args"]
    places = {"/mnt/models": folder / "mnt", "/etc/tf-serving": folder, "/models/.": f"{folder}/image/."}
    for place, other in places.items():
        script, config = (text.replace(place, str(other)) for text in (script, config))
    (folder / "models.config").write_text(config)
    command = [*container["command"], script]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=30), folder / "mnt"


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_labels_name_versions_that_are_loaded(overlay, tmp_path):
    for model in served(overlay, pod_of(overlay), tmp_path):
        assert model.labels.keys() == {"stable", "canary"}, "a label that is asked for and unknown is an error"
        assert unfit(model) == set()


@pytest.mark.parametrize("overlay", [overlay for overlay in OVERLAYS if overlay != COMBINED])
def test_a_label_for_a_version_that_is_not_loaded_is_refused_over_every_overlay(overlay, tmp_path):
    mistaken = with_models_config(overlay, NOT_LOADED)
    (model,) = served(mistaken, pod_of(mistaken), tmp_path)
    assert unfit(model) == {"stable", "canary"}


@pytest.mark.parametrize("overlay", COPYING)
def test_the_image_holds_the_versions_that_are_loaded(overlay, tmp_path):
    tag = models_container(overlay)["image"].rsplit(":", 1)[1]
    for model in served(overlay, pod_of(overlay), tmp_path):
        assert model.policy.specific <= HELD[tag]


def test_a_canary_serves_both_versions_one_a_label(tmp_path):
    (before,) = served("plain", pod_of("plain"), tmp_path)
    (during,) = served("canary", pod_of("canary"), tmp_path)
    assert (before.name, before.base_path) == (during.name, during.base_path)
    assert during.labels["stable"] == before.labels["stable"] == before.labels["canary"]
    assert during.labels["canary"] > during.labels["stable"]


def test_a_promotion_loads_what_the_canary_did_and_gives_both_labels_to_the_new_version(tmp_path):
    (during,) = served("canary", pod_of("canary"), tmp_path)
    (after,) = read(block("", "model_config_list"), tmp_path)
    assert (after.name, after.base_path, after.policy) == (during.name, during.base_path, during.policy)
    assert set(after.labels.values()) == {during.labels["canary"]}
    assert after.labels.keys() == during.labels.keys()


def test_tags_of_an_overlay_of_yours_go_over_those_of_ours():
    images = block("yaml", "images:").replace("segment-models\n    newTag: 1.0.0", "segment-models\n    newTag: 1.1.0")
    yours = f"resources: [BASE/base]\ncomponents: [BASE/components/canary]\n{images}"
    assert models_container(yours)["image"] == "registry.example.com/segment-models:1.1.0"
    assert {pod.main["image"] for pod in pods_of(yours, FUNCTION)} == {f"registry.example.com/segment:{__version__}"}
    assert len(pods_of(yours, FUNCTION)) == 2


def test_the_models_are_mounted_where_they_are_copied_to():
    (pod,) = pods_of("plain", SERVING)
    container = models_container("plain")
    source, target = re.findall(r"^cp -R (\S+)/\. (\S+)/$", container["args"][0], re.MULTILINE)[0]
    assert f"COPY --from=files /models {source}\n" in (KUBERNETES / "model.Dockerfile").read_text()
    (written,) = [mount for mount in container["volumeMounts"] if not mount.get("readOnly")]
    others = {mount["name"]: mount for mount in pod.main["volumeMounts"]}
    assert others[written["name"]]["mountPath"] == written["mountPath"] == target
    (config,) = [mount for mount in container["volumeMounts"] if mount.get("readOnly")]
    assert config == others[config["name"]]
    assert f" {config['mountPath']}/models.config " in container["args"][0]


@pytest.mark.parametrize("overlay", COPYING)
def test_a_pod_starts_with_the_models_of_its_image(overlay, tmp_path):
    held = HELD[models_container(overlay)["image"].rsplit(":", 1)[1]]
    done, copied = start(overlay, models_config(overlay, pod_of(overlay)), held, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(str(path.relative_to(copied)) for path in copied.rglob("*.pb")) == [
        f"shapes/{version}/saved_model.pb" for version in sorted(held)
    ]


@pytest.mark.parametrize(
    ("policy", "value", "held", "message"),
    [
        ("specific { versions: 1 versions: 2 }", 2, {1, 2}, None),
        ("specific { versions: [1, 2] }", 2, {1, 2}, None),
        ("latest { num_versions: 3 }", 1, {1}, None),  # three are never there at the start
        ("specific {\n # versions: 3\n versions: 1\n}", 1, {1}, None),
        ("specific { versions: 1 }", 2, {1, 2}, "a label for 2 beside versions 1"),
        ("specific { versions: 12 versions: 21 }", 2, {2, 12, 21}, "a label for 2 beside versions 12,21"),
        ("specific { versions: 1 versions: 2 }", 2, {1}, "versions: 2, which is not in the image as "),
        ("specific { versions: [1, 2] }", 1, {1}, "versions: 2, which is not in the image as "),
        ("all {}", 2, {1}, "value: 2, which is not in the image as "),
    ],
)
def test_a_pod_that_could_not_answer_a_label_does_not_start(policy, value, held, message, tmp_path):
    config = NOT_LOADED.replace("specific { versions: 1 }", policy).replace("value: 2", f"value: {value}")
    read(config, tmp_path)
    done, _ = start("plain", config, held, tmp_path)
    if message is None:
        assert (done.returncode, done.stderr) == (0, "")
    else:
        assert done.returncode == 1
        assert done.stderr.startswith(f"models.config must name versions that are loaded, got {message}")


def test_shellcheck_has_nothing_to_say(tmp_path):
    (tmp_path / "script.sh").write_text(models_container("plain")["args"][0])
    command = [Path(sys.prefix) / "bin" / "shellcheck", "--shell=sh", tmp_path / "script.sh"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "")
