"""What to serve: a model's name, base path, version policy and labels."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from deploy.model_server.errors import Code, RefusedError, StartError
from deploy.model_server.flags import Flags

_MODEL_TYPE_TENSORFLOW = 1  # deprecated, before model_platform


@dataclass(frozen=True)
class VersionPolicy:
    """Which versions to serve: the ``specific`` ones, which may be none, or else the ``latest`` n; 0 means all."""

    latest: int = 1
    specific: frozenset[int] | None = None

    def choose(self, found: Mapping[int, Path]) -> dict[int, Path]:
        """Return the versions of ``found`` to serve, highest first."""
        descending = sorted(found, reverse=True)
        if self.specific is not None:
            wanted = [version for version in descending if version in self.specific]
        else:
            wanted = descending[: self.latest or None]
        return {version: found[version] for version in wanted}


@dataclass(frozen=True)
class Model:
    """A model to serve."""

    name: str
    base_path: Path
    policy: VersionPolicy = VersionPolicy()
    labels: Mapping[str, int] = field(default_factory=dict)


def models_from_flags(flags: Flags) -> tuple[Model, ...]:
    """Return the models of a command line. Raises StartError if they cannot be read or served."""
    if not flags.model_config_file:
        return (Model(flags.model_name, _base_path(flags.model_name, flags.model_base_path)),)
    models = models_from_file(Path(flags.model_config_file))
    labels = [(model.name, version) for model in models for version in model.labels.values()]
    if labels and not flags.allow_version_labels_for_unavailable_models:
        name, version = labels[0]
        what = f"label to version {version} of model {name}, which is not currently available for inference"
        raise RefusedError(Code.FAILED_PRECONDITION, f"Request to assign {what}")
    return models


def models_from_file(path: Path) -> tuple[Model, ...]:
    """Read a text ModelServerConfig. Raises StartError if it is none, or if TensorFlow Serving would refuse it."""
    config = model_server_config_pb2.ModelServerConfig()
    try:
        text_format.Parse(path.read_text(encoding="utf-8"), config)
    except (OSError, UnicodeDecodeError, text_format.ParseError) as error:
        raise StartError(f"--model_config_file {path} must be a text ModelServerConfig: {error}") from error
    entries = config.model_config_list.config
    for name, count in Counter(entry.name for entry in entries).items():
        if count > 1:
            raise RefusedError(Code.INVALID_ARGUMENT, f"Illegal to list model {name} multiple times in config list")
    models = []
    for entry in entries:
        base_path = _base_path(entry.name, entry.base_path)
        _check_platform(entry)
        models.append(Model(entry.name, base_path, _policy(entry.model_version_policy), dict(entry.version_labels)))
    return tuple(models)


def _base_path(name: str, text: str) -> Path:
    path = Path(text)
    if not path.is_absolute():
        what = f"Expected model {name} to have an absolute path or URI; got base_path()={text}"
        raise RefusedError(Code.INVALID_ARGUMENT, what)
    return path


def _check_platform(entry: model_server_config_pb2.ModelConfig) -> None:
    platform = entry.model_platform or ("tensorflow" if entry.model_type == _MODEL_TYPE_TENSORFLOW else "")
    if not platform:
        what = "Illegal setting neither ModelServerConfig::model_type (deprecated) nor"
        raise RefusedError(Code.INVALID_ARGUMENT, f"{what} ModelServerConfig::model_platform.")
    if platform != "tensorflow":
        what = f"Model {entry.name} requests unsupported platform {platform}"
        raise RefusedError(Code.INVALID_ARGUMENT, what)


def _policy(policy: model_server_config_pb2.ModelConfig) -> VersionPolicy:
    match policy.WhichOneof("policy_choice"):
        case "specific":
            return VersionPolicy(specific=frozenset(policy.specific.versions))
        case "all":
            return VersionPolicy(latest=0)
        case _:
            return VersionPolicy(latest=policy.latest.num_versions or 1)
