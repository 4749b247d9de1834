"""What to serve: a model's name, base path, version policy and labels."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from deploy.model_server.errors import StartError
from deploy.model_server.flags import Flags


@dataclass(frozen=True)
class VersionPolicy:
    """Which versions to serve: the ``specific`` ones, or else the ``latest`` n; 0 means all."""

    latest: int = 1
    specific: frozenset[int] = frozenset()

    def choose(self, found: Mapping[int, Path]) -> dict[int, Path]:
        """Return the versions of ``found`` to serve, highest first."""
        descending = sorted(found, reverse=True)
        if self.specific:
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
    """Return the models of a command line. Raises StartError if the config file cannot be read."""
    if flags.model_config_file:
        return models_from_file(Path(flags.model_config_file))
    return (Model(flags.model_name, Path(flags.model_base_path)),)


def models_from_file(path: Path) -> tuple[Model, ...]:
    """Read a text ModelServerConfig. Base paths are relative to the working directory. Raises StartError."""
    config = model_server_config_pb2.ModelServerConfig()
    try:
        text_format.Parse(path.read_text(encoding="utf-8"), config)
    except (OSError, UnicodeDecodeError, text_format.ParseError) as error:
        raise StartError(f"--model_config_file {path} must be a text ModelServerConfig: {error}") from error
    entries = config.model_config_list.config
    names = [entry.name for entry in entries]
    if not names or len(set(names)) != len(names):
        raise StartError(f"--model_config_file {path} must list models of different names, got {names}")
    return tuple(
        Model(entry.name, Path(entry.base_path), _policy(entry.model_version_policy), dict(entry.version_labels))
        for entry in entries
    )


def _policy(policy: model_server_config_pb2.ModelConfig) -> VersionPolicy:
    match policy.WhichOneof("policy_choice"):
        case "specific":
            return VersionPolicy(specific=frozenset(policy.specific.versions))
        case "all":
            return VersionPolicy(latest=0)
        case _:
            return VersionPolicy(latest=policy.latest.num_versions or 1)
