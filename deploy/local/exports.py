"""The bundled model as SavedModels under ``build/models``; each kind is exported again if weights or sources changed.

``build/models/KIND/`` is a base path for TensorFlow Serving. ``build/models/KIND.sha256`` is the hash of what its
version was made of.
"""

import fcntl
import hashlib
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from deploy.models.shapes import bundled, export
from deploy.tools.processes import ROOT, Programs, RunError

SOURCES = ("deploy/export", "deploy/models/shapes", "handler")


def base_path(build: Path, kind: str) -> Path:
    """Return the folder of versions of one kind of export."""
    return build / "models" / kind


def ensure(build: Path, logs: Path, kinds: Sequence[str]) -> None:
    """Export those ``kinds`` that are missing or out of date, and print so. Raises RunError."""
    if not bundled.WEIGHTS.is_file():
        raise RunError(f"the bundled model needs {bundled.WEIGHTS.relative_to(ROOT)}, which is missing: make train")
    models = build / "models"
    models.mkdir(parents=True, exist_ok=True)
    with (models / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # until the file closes: a second command waits and finds the exports
        fingerprint = _fingerprint()
        stale = [kind for kind in kinds if not _is_current(build, kind, fingerprint)]
        if stale:
            _export(build, logs, stale, fingerprint)


def _export(build: Path, logs: Path, kinds: Sequence[str], fingerprint: str) -> None:
    print(f"exporting the bundled model: {', '.join(kinds)} (once, about a minute) ...", flush=True)
    started = time.monotonic()
    with Programs(logs) as programs:
        programs.start("export", __name__, str(build), *kinds)
        programs.wait()
    for kind in kinds:
        for old in _versions(build, kind)[:-1]:
            shutil.rmtree(old)
        _stamp(build, kind).write_text(fingerprint, encoding="utf-8")
    print(f"exported in {time.monotonic() - started:.0f} s", flush=True)


def _is_current(build: Path, kind: str, fingerprint: str) -> bool:
    stamp = _stamp(build, kind)
    made_of = stamp.read_text(encoding="utf-8") if stamp.is_file() else ""
    return made_of == fingerprint and bool(_versions(build, kind))


def _versions(build: Path, kind: str) -> list[Path]:
    """Return the complete version folders, oldest first."""
    found = (path.parent for path in base_path(build, kind).glob("*/saved_model.pb") if path.parent.name.isdigit())
    return sorted(found, key=lambda folder: int(folder.name))


def _stamp(build: Path, kind: str) -> Path:
    return base_path(build, kind).with_suffix(".sha256")


def _fingerprint() -> str:
    """Return a hash over everything an export depends on: weights, sources, pinned packages."""
    sources = sorted(path for folder in SOURCES for path in (ROOT / folder).rglob("*.py"))
    digest = hashlib.sha256()
    for path in (bundled.WEIGHTS, ROOT / "requirements.lock", *sources):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(ROOT)} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def main(arguments: Sequence[str]) -> int:
    """Export in one process, as TensorFlow takes seconds to import. Arguments: the build folder, then the kinds."""
    build, kinds = Path(arguments[0]), arguments[1:]
    codes = [export.main([kind, "--output", str(base_path(build, kind))]) for kind in kinds]
    return max(codes)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
