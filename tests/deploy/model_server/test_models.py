"""What the stand-in is told to serve, and what TensorFlow Serving refuses at its start, in its words."""

from pathlib import Path

import pytest

from deploy.model_server.errors import RefusedError
from deploy.model_server.flags import Flags
from deploy.model_server.models import Model, VersionPolicy, models_from_flags

PLATFORM = 'model_platform: "tensorflow"'
LABEL = 'version_labels { key: "stable" value: 7 }'


def models(folder, *entries, **flags):
    path = folder / "models.config"
    listed = " ".join(f"config {{ {entry} }}" for entry in entries)
    path.write_text(f"model_config_list {{ {listed} }}")
    return models_from_flags(Flags(model_config_file=str(path), **flags))


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        (
            [f'name: "m" base_path: "models/m" {PLATFORM}'],
            "INVALID_ARGUMENT: Expected model m to have an absolute path or URI; got base_path()=models/m",
        ),
        (
            ['name: "m" base_path: "/m"'],
            "INVALID_ARGUMENT: Illegal setting neither ModelServerConfig::model_type (deprecated) nor"
            " ModelServerConfig::model_platform.",
        ),
        (
            ['name: "m" base_path: "/m" model_platform: "pytorch"'],
            "INVALID_ARGUMENT: Model m requests unsupported platform pytorch",
        ),
        (
            [f'name: "m" base_path: "/m" {PLATFORM} {LABEL}'],
            "FAILED_PRECONDITION: Request to assign label to version 7 of model m,"
            " which is not currently available for inference",
        ),
        (
            [f'name: "m" base_path: "/m" {PLATFORM}', f'name: "m" base_path: "/n" {PLATFORM}'],
            "INVALID_ARGUMENT: Illegal to list model m multiple times in config list",
        ),
    ],
)
def test_what_tensorflow_serving_refuses(entries, words, tmp_path):
    with pytest.raises(RefusedError) as failure:
        models(tmp_path, *entries)
    assert str(failure.value) == f"Failed to start server. Error: {words}"


def test_what_it_takes(tmp_path):
    assert models(tmp_path) == ()
    assert models(tmp_path, 'name: "m" base_path: "/m" model_type: TENSORFLOW') == (Model("m", Path("/m")),)
    (labelled,) = models(
        tmp_path, f'name: "m" base_path: "/m" {PLATFORM} {LABEL}', allow_version_labels_for_unavailable_models=True
    )
    assert labelled.labels == {"stable": 7}


@pytest.mark.parametrize(
    ("policy", "chosen"),
    [
        ("", {3}),
        ("latest { num_versions: 2 }", {2, 3}),
        ("all { }", {1, 2, 3}),
        ("specific { versions: 1 }", {1}),
        ("specific { }", set()),
    ],
)
def test_which_versions_a_policy_chooses(policy, chosen, tmp_path):
    written = f"model_version_policy {{ {policy} }}" if policy else ""
    (model,) = models(tmp_path, f'name: "m" base_path: "/m" {PLATFORM} {written}')
    assert model.policy.choose({number: Path(f"/m/{number}") for number in (1, 2, 3)}).keys() == chosen
    assert (model.policy == VersionPolicy()) == (chosen == {3})
