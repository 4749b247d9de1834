"""What TensorFlow Serving is told in the manifests: its flags and its models.config, as the stand-in reads them."""

from collections.abc import Callable
from dataclasses import fields
from pathlib import PurePath

from deploy.model_server import flags, models

from .rendered import environment, kind

KNOWN = {entry.name for entry in fields(flags.Flags)}
# Flags of TensorFlow Serving that the stand-in does not have, and how their values are read. Source: main.cc.
OTHERS: dict[str, Callable[[str], object]] = {
    "tensorflow_intra_op_parallelism": int,
    "tensorflow_inter_op_parallelism": int,
}


def arguments(overlay, pod):
    """Return the flags as the container gets them, with $(NAME) replaced."""
    variables = environment(pod, overlay)
    found = pod.main["args"]
    for name, value in variables.items():
        found = [argument.replace(f"$({name})", value) for argument in found]
    return found


def parsed(overlay, pod):
    split = [argument.removeprefix("--").split("=", 1) for argument in arguments(overlay, pod)]
    known = flags.parse(f"--{name}={value}" for name, value in split if name in KNOWN)
    return known, {name: OTHERS[name](value) for name, value in split if name not in KNOWN}


def models_config(overlay, pod):
    """Return the text of the mounted models.config."""
    path = PurePath(parsed(overlay, pod)[0].model_config_file)
    (mount,) = [mount for mount in pod.main["volumeMounts"] if PurePath(mount["mountPath"]) == path.parent]
    (volume,) = [volume for volume in pod.spec["volumes"] if volume["name"] == mount["name"]]
    return kind(overlay, "ConfigMap", name=volume["configMap"]["name"])["data"][path.name]


def read(text, tmp_path):
    (tmp_path / "models.config").write_text(text)
    return models.models_from_file(tmp_path / "models.config")


def served(overlay, pod, tmp_path):
    return read(models_config(overlay, pod), tmp_path)
