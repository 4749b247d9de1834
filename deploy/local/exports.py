"""A model as SavedModels under ``build/models``; each kind is exported again if weights or sources changed.

``build/models/KIND/`` is a base path for TensorFlow Serving, of the bundled model; other models have a folder between.
``KIND.sha256`` beside it is the hash of what its version was made of.
"""

import fcntl
import hashlib
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from deploy.local.models import MODELS, SHAPES, Model
from deploy.tools.processes import ROOT, Programs


def base_path(build: Path, kind: str, model: Model = SHAPES) -> Path:
    """Return the folder of versions of one kind of export."""
    return build / "models" / model.folder / kind


def ensure(build: Path, logs: Path, kinds: Sequence[str], model: Model = SHAPES) -> None:
    """Export those ``kinds`` that are missing or out of date, and print so. Raises RunError."""
    models = build / "models"
    models.mkdir(parents=True, exist_ok=True)
    with (models / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # until the file closes: a second command waits and finds the exports
        model.prepare()
        fingerprint = _fingerprint(model)
        stale = [kind for kind in kinds if not _is_current(base_path(build, kind, model), fingerprint)]
        if stale:
            _export(build, logs, stale, model, fingerprint)


def _export(build: Path, logs: Path, kinds: Sequence[str], model: Model, fingerprint: str) -> None:
    print(f"exporting {model.title}: {', '.join(kinds)} (once, about a minute) ...", flush=True)
    started = time.monotonic()
    with Programs(logs) as programs:
        programs.start("export", __name__, str(build), model.name, *kinds)
        programs.wait()
    for base in (base_path(build, kind, model) for kind in kinds):
        for old in _versions(base)[:-1]:
            shutil.rmtree(old)
        _stamp(base).write_text(fingerprint, encoding="utf-8")
    print(f"exported in {time.monotonic() - started:.0f} s", flush=True)


def _is_current(base: Path, fingerprint: str) -> bool:
    stamp = _stamp(base)
    made_of = stamp.read_text(encoding="utf-8") if stamp.is_file() else ""
    return made_of == fingerprint and bool(_versions(base))


def _versions(base: Path) -> list[Path]:
    """Return the complete version folders, oldest first."""
    found = (path.parent for path in base.glob("*/saved_model.pb") if path.parent.name.isdigit())
    return sorted(found, key=lambda folder: int(folder.name))


def _stamp(base: Path) -> Path:
    return base.with_suffix(".sha256")


def _fingerprint(model: Model) -> str:
    """Return a hash over everything an export depends on: weights, sources, pinned packages."""
    sources = sorted(path for folder in model.sources for path in (ROOT / folder).rglob("*.py"))
    digest = hashlib.sha256()
    for path in (*model.files, ROOT / "requirements.lock", *sources):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(ROOT)} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def main(arguments: Sequence[str]) -> int:
    """Export in one process, as TensorFlow takes seconds to import. Arguments: build folder, model, kinds."""
    build, model, kinds = Path(arguments[0]), MODELS[arguments[1]], arguments[2:]
    codes = [model.export([kind, "--output", str(base_path(build, kind, model))]) for kind in kinds]
    return max(codes)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
