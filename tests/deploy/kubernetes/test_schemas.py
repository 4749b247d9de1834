"""Every overlay renders into documents that the API takes as they are; and the checks can say no."""

import copy

import pytest

from handler import __version__

from .rendered import KUBERNETES, NAMESPACE, OVERLAYS, documents, kind, render_text
from .schemas import InvalidError, check


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_document_has_known_fields_of_the_right_type(overlay):
    for document in documents(overlay):
        check(document)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_no_two_documents_are_the_same_object(overlay):
    names = [(one["apiVersion"], one["kind"], one["metadata"]["name"]) for one in documents(overlay)]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_everything_is_in_the_namespace_that_it_brings(overlay):
    assert list(kind(overlay, "Namespace")) == [NAMESPACE]
    others = [document for document in documents(overlay) if document["kind"] != "Namespace"]
    assert {document["metadata"].get("namespace") for document in others} == {NAMESPACE}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_everything_says_what_it_is_a_part_of(overlay):
    for document in documents(overlay):
        assert document["metadata"]["labels"]["app.kubernetes.io/part-of"] == "segment"


@pytest.mark.parametrize(
    ("overlay", "wanted", "name", "path", "value"),
    [
        ("plain", "Deployment", "segment", "spec/template/spec/containers/0/readinesProbe", {}),
        ("plain", "Deployment", "segment", "spec/replicas", "two"),
        ("plain", "Deployment", "tf-serving", "spec/template/spec/containers/0/livenessProbe/grpc/port", "grpc"),
        ("plain", "HorizontalPodAutoscaler", "segment", "spec/minReplica", 2),
        ("plain", "NetworkPolicy", "tf-serving", "spec/ingress/0/from/0/podSelectors", {}),
        ("knative", "Service", "segment", "spec/template/spec/containerConcurency", 16),
        ("knative", "Service", "segment", "spec/template/spec/containerConcurrency", "16"),
        ("knative", "Service", "segment", "spec/template/spec/containers/0/lifecycle", {}),
        ("kserve", "InferenceService", "shapes", "spec/predictor/minReplica", 2),
        ("kserve", "InferenceService", "shapes", "spec/predictor/minReplicas", "2"),
        ("kserve", "InferenceService", "shapes", "spec/predictor/model/storageURI", "pvc://models"),
        ("kserve", "InferenceService", "shapes", "spec/predictor/model/resources", {"limit": {}}),
        ("kserve", "InferenceService", "shapes", "spec/predictor/deploymentStrategy/type", 1),
        ("kserve", "InferenceService", "shapes", "spec/predictors", {}),
        ("kserve", "ServingRuntime", "tf-serving", "spec/multimodel", False),
        ("kserve", "ServingRuntime", "tf-serving", "spec/containers/0/imagePolicy", "Always"),
        ("kserve", "ServingRuntime", "tf-serving", "spec/supportedModelFormats/0/version", 2),
    ],
)
def test_a_misspelt_field_or_a_wrong_type_is_refused(overlay, wanted, name, path, value):
    api = "serving" if overlay == "knative" else ""
    document = copy.deepcopy(kind(overlay, wanted, api, name))
    *steps, last = path.split("/")
    place = document
    for step in steps:
        place = place[int(step)] if isinstance(place, list) else place[step]
    place[last] = value
    with pytest.raises(InvalidError):
        check(document)


def test_the_examples_in_the_plain_overlay_render_as_they_stand():
    lines = (KUBERNETES / "overlays" / "plain" / "kustomization.yaml").read_text().splitlines()
    example = [line.removeprefix("# ") for line in lines[2:]]
    assert len(example) > len(lines) / 2
    found = render_text("\n".join(example).replace("../..", "BASE"))
    settings = [one["data"] for one in found if one["metadata"]["name"].startswith("segment-settings")]
    assert [one["CORS_ORIGINS"] for one in settings] == ["https://example.com"]
    images = str(found)
    assert f"registry.example.com/segment:{__version__}" in images
    assert "registry.example.com/segment-models:1.0.0" in images
