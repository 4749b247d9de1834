"""Is a document one that the API would take? Each kind by the strictest schema that installs here.

The core kinds have Kubernetes' own schemas, of the oldest version that the base is for and of the newest at hand.
Knative has models made from its CRDs, which let unknown fields pass: these show by comparing with what the model kept.
KServe's package needs another protobuf than the function, so that its field names are written down here, and the parts
that are of a pod or of a Deployment are put into one.
"""

import kubernetes_validate
from cloudcoil.models.knative_serving.serving.v1 import Service as KnativeService

from tests.deploy.kubernetes.rendered import COMPONENT_FIELDS

VERSIONS = ("1.30", "1.37")
CRD_FIELDS = {"apiVersion": str, "kind": str, "metadata": dict, "spec": dict, "status": dict}
# Source: the CRDs of KServe 0.21. What MODEL and RUNTIME share with a container or a pod is checked as such.
INFERENCE_SERVICE = {"predictor": dict, "transformer": dict, "explainer": dict, "canary": dict, "tracing": dict}
MODEL = {
    "confidential": dict,
    "modelFormat": dict,
    "protocolVersion": str,
    "runtime": str,
    "runtimeVersion": str,
    "storage": dict,
    "storageUri": str,
}
MODEL_FORMAT = {"name": str, "version": str}
RUNTIME = {
    "annotations": dict,
    "builtInAdapter": dict,
    "disabled": bool,
    "grpcDataEndpoint": str,
    "grpcEndpoint": str,
    "httpDataEndpoint": str,
    "labels": dict,
    "multiModel": bool,
    "protocolVersions": list,
    "replicas": int,
    "storageHelper": dict,
    "supportedModelFormats": list,
    "workerSpec": dict,
}
SUPPORTED_FORMAT = {"name": str, "version": str, "autoSelect": bool, "priority": int}


class InvalidError(ValueError):
    """A document that the API would refuse, or of which it would drop a part."""


def check(document):
    """Raise InvalidError where a rendered document has an unknown field or a value of a wrong type."""
    checks = {"serving.knative.dev/v1": _knative, "serving.kserve.io/v1beta1": _service}
    checks |= {"serving.kserve.io/v1alpha1": _runtime}
    checks.get(document["apiVersion"], _core)(document)


def _core(document):
    for version in VERSIONS:
        try:
            kubernetes_validate.validate(document, version, strict=True)
        except (kubernetes_validate.ValidationError, kubernetes_validate.SchemaNotFoundError) as error:
            raise InvalidError(f"{version}: {error}") from error


def _knative(document):
    try:
        read = KnativeService.model_validate(document, strict=True)  # else "2" is a number where one may be
    except ValueError as error:
        raise InvalidError(str(error)) from error
    kept = read.model_dump(mode="json", by_alias=True, exclude_unset=True)
    if kept != document:
        raise InvalidError(f"must be what a Knative Service keeps of it, {kept}, got {document}")


def _service(document):
    _fields(document, CRD_FIELDS)
    _fields(document["spec"], INFERENCE_SERVICE)
    predictor = document["spec"]["predictor"]
    _fields({name: value for name, value in predictor.items() if name in COMPONENT_FIELDS}, COMPONENT_FIELDS)
    model = predictor["model"]
    container = {name: value for name, value in model.items() if name not in MODEL}
    _fields({name: value for name, value in model.items() if name in MODEL}, MODEL)
    _fields(model["modelFormat"], MODEL_FORMAT)
    spec = {name: value for name, value in predictor.items() if name not in COMPONENT_FIELDS}
    spec["containers"] = [{"name": "kserve-container", **container}]
    _deployment(document, predictor.get("labels", {}), spec, predictor.get("deploymentStrategy", {}))


def _runtime(document):
    _fields(document, CRD_FIELDS)
    spec = document["spec"]
    _fields({name: value for name, value in spec.items() if name in RUNTIME}, RUNTIME)
    for supported in spec["supportedModelFormats"]:
        _fields(supported, SUPPORTED_FORMAT)
    _deployment(document, spec.get("labels", {}), {name: spec[name] for name in spec if name not in RUNTIME}, {})


def _deployment(document, labels, pod_spec, strategy):
    template = {"metadata": {"labels": labels}, "spec": pod_spec}
    spec = {"selector": {"matchLabels": labels}, "strategy": strategy, "template": template}
    _core({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": document["metadata"], "spec": spec})


def _fields(found, known):
    for name, value in found.items():
        if type(value) is not known.get(name):
            raise InvalidError(f"{name} must be one of {known}, got {value!r}")
