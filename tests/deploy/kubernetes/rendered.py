"""The overlays as a cluster would get them, and the pods that come of them."""

import functools
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[3]
KUBERNETES = ROOT / "deploy" / "kubernetes"
KUBECTL = Path(sys.prefix) / "bin" / "kubectl"
NAMESPACE = "segment"
COMBINED = "base with all components"
COMBINED_TEXT = """
resources: [BASE/base]
components: [BASE/components/canary, BASE/components/gpu, BASE/components/mtls]
images: [{name: segment-models, newTag: 1.1.0}]
"""
OVERLAYS = (*sorted(path.name for path in (KUBERNETES / "overlays").iterdir()), COMBINED)
FUNCTION, SERVING = "segment", "tf-serving"  # app.kubernetes.io/name
NAME, TRACK = "app.kubernetes.io/name", "track"


@functools.cache
def documents(overlay):
    """``overlay``: a name of OVERLAYS, or the text of a kustomization, as render_text takes it."""
    if overlay == COMBINED:
        overlay = COMBINED_TEXT
    return render_text(overlay) if "\n" in overlay else render(KUBERNETES / "overlays" / overlay)


def render_text(kustomization):
    """Render a kustomization that a user might write; BASE in it is where deploy/kubernetes is."""
    with tempfile.TemporaryDirectory() as folder:
        base = os.path.relpath(KUBERNETES, Path(folder).resolve())
        (Path(folder) / "kustomization.yaml").write_text(kustomization.replace("BASE", base))
        return render(folder)


def render(folder):
    done = subprocess.run([KUBECTL, "kustomize", folder], check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""  # kustomize warns of deprecated fields
    return list(yaml.load_all(done.stdout, yaml.CSafeLoader))


def kind(overlay, wanted, api="", name=None):
    """Return the documents of a kind by name, or the one that is named; ``api`` is what apiVersion starts with."""
    found = {
        document["metadata"]["name"]: document
        for document in documents(overlay)
        if document["kind"] == wanted and document["apiVersion"].startswith(api)
    }
    return found if name is None else found[name]


def services(overlay):
    return kind(overlay, "Service", "v1")


@dataclass(frozen=True)
class Pod:
    """What one workload makes pods of. ``spec`` is a PodSpec; ``workload`` the document that it is from."""

    labels: dict
    spec: dict = field(repr=False)
    workload: dict = field(repr=False)

    @property
    def main(self):
        return self.spec["containers"][0]

    @property
    def containers(self):
        return [*self.spec.get("initContainers", []), *self.spec["containers"]]

    @property
    def track(self):
        return self.labels.get(TRACK, "stable")


@functools.cache
def pods(overlay):
    templates = []
    for document in documents(overlay):
        match document["kind"], document["apiVersion"].split("/")[0]:
            case ("Deployment", "apps") | ("Service", "serving.knative.dev"):
                template = document["spec"]["template"]
                templates.append(Pod(template["metadata"]["labels"], template["spec"], document))
            case ("InferenceService", _):
                templates.append(_kserve(document, overlay))
    return templates


def pods_of(overlay, name):
    return [pod for pod in pods(overlay) if pod.labels[NAME] == name]


# Of a predictor; everything else there is of a PodSpec. Source: the CRD of KServe 0.21.
COMPONENT_FIELDS = {
    "annotations": dict,
    "autoScaling": dict,
    "batcher": dict,
    "canaryTrafficPercent": int,
    "containerConcurrency": int,
    "deploymentStrategy": dict,
    "labels": dict,
    "logger": dict,
    "maxReplicas": int,
    "minReplicas": int,
    "model": dict,
    "scaleMetric": str,
    "scaleMetricType": str,
    "scaleTarget": int,
    "storageContainerName": str,
    "storageUris": list,
    "timeout": int,
    "workerSpec": dict,
}


def _kserve(service, overlay):
    """Put runtime and predictor together as KServe does, which mounts the claim of a pvc:// itself."""
    predictor = service["spec"]["predictor"]
    runtime = kind(overlay, "ServingRuntime", name=predictor["model"]["runtime"])["spec"]
    scheme, claim = predictor["model"]["storageUri"].split("://")
    assert scheme == "pvc"
    container, *others = runtime["containers"]
    mount = {"name": "kserve-pvc-source", "mountPath": "/mnt/models", "readOnly": True}
    source = {"name": "kserve-pvc-source", "persistentVolumeClaim": {"claimName": claim}}
    spec = {name: value for name, value in predictor.items() if name not in COMPONENT_FIELDS}
    spec["containers"] = [{**container, "volumeMounts": [*container["volumeMounts"], mount]}, *others]
    spec["volumes"] = [*runtime["volumes"], source]
    return Pod(predictor["labels"], spec, service)


def environment(pod, overlay, secrets=()):
    """Return the variables of the pod's main container. ``secrets``: of each secret its keys with their values."""
    secrets = dict(secrets)
    variables = {}
    for source in pod.main.get("envFrom", []):
        variables |= kind(overlay, "ConfigMap", name=source["configMapRef"]["name"])["data"]
    for entry in pod.main.get("env", []):
        reference = entry.get("valueFrom", {}).get("secretKeyRef")
        if "value" in entry:
            variables[entry["name"]] = entry["value"]
        elif reference is not None:
            held = secrets.get(reference["name"], {})
            assert reference["key"] in held or reference.get("optional")
            variables |= {entry["name"]: held[reference["key"]]} if reference["key"] in held else {}
        else:
            variables[entry["name"]] = _resource(entry["valueFrom"]["resourceFieldRef"], pod)
    return variables


def _resource(reference, pod):
    container = next(one for one in pod.containers if one["name"] == reference["containerName"])
    bound, resource = reference["resource"].split(".")
    assert resource == "cpu"
    return str(-(-milli(container["resources"][bound]["cpu"]) // 1000))  # rounded up, as the kubelet does


def milli(cpu):
    return int(cpu.removesuffix("m")) if cpu.endswith("m") else 1000 * int(cpu)


def bytes_of(quantity):
    units = {"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30}
    return int(quantity[:-2]) * units[quantity[-2:]]
