"""Packages with their versions: those that a requirements file names, and those that they need."""

import importlib.metadata
from importlib.util import cache_from_source
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
DIRECT = ROOT / "requirements.txt"
MESSAGES_ONLY = "tensorflow-serving-api"  # named for its messages alone, which the bundle carries itself
ID_TOKENS = "google-auth[requests]"  # 25 MB that only a function with TF_SERVING_AUDIENCE needs
HEIC = "pillow-heif"  # 26 MB that only a function with IMAGE_KINDS=heic needs


def direct() -> list[str]:
    """Return the packages that requirements.txt names, as ``name==version``."""
    return [line for line in DIRECT.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]


def closure(pinned: list[str]) -> dict[str, str]:
    """Return name -> installed version of the pinned packages and of everything that they need on this platform.

    Raises PackageNotFoundError if a package is not installed.
    """
    versions: dict[str, str] = {}
    pending = [Requirement(line) for line in pinned]
    while pending:
        requirement = pending.pop()
        name = canonicalize_name(requirement.name)
        if name not in versions:
            versions[name] = importlib.metadata.version(name)
            needs = map(Requirement, importlib.metadata.requires(name) or [])
            pending += [need for need in needs if _applies(need, requirement.extras)]
    return dict(sorted(versions.items()))


def _applies(need: Requirement, extras: set[str]) -> bool:
    return need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in (extras or {""}))


def slim(id_tokens: bool = False, heic: bool = False) -> list[str]:
    """Return what the bundle needs, as ``name==version``: all but MESSAGES_ONLY, then what they need.

    ``id_tokens`` adds the package that fetches ID tokens, ``heic`` the one that reads HEIC.
    """
    kept = [line for line in direct() if canonicalize_name(Requirement(line).name) != MESSAGES_ONLY]
    wanted = ((ID_TOKENS, id_tokens), (HEIC, heic))
    kept += [f"{name}=={importlib.metadata.version(Requirement(name).name)}" for name, is_wanted in wanted if is_wanted]
    names = {canonicalize_name(Requirement(line).name) for line in kept}
    needed = [f"{name}=={version}" for name, version in closure(kept).items() if name not in names]
    return kept + needed


def installed_bytes(pinned: list[str]) -> int:
    """Return the bytes on disk of the packages and all that they need, with compiled modules."""
    return sum(_size(name) for name in closure(pinned))


def _size(name: str) -> int:
    files = {Path(str(file.locate())) for file in importlib.metadata.files(name) or []}
    files |= {Path(cache_from_source(file)) for file in files if file.suffix == ".py"}
    return sum(file.stat().st_size for file in files if file.is_file())
