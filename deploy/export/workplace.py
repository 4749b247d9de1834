"""A folder to work in beside the target: what is done is renamed into its place, and what fails vanishes."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deploy.export.graphs import ExportError


@contextmanager
def workplace(folder: Path, wanted: str) -> Iterator[Path]:
    """Yield a new folder within ``folder``, which is made where it is missing, and removed where it stays empty.

    Raises ExportError, beginning with ``wanted``, where it cannot be written.
    """
    missing = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=".export-", dir=folder))
    except OSError as error:
        _remove_empty(missing)
        raise ExportError(f"{wanted}, got {folder}: {error.strerror}") from error
    try:
        yield work
    finally:
        shutil.rmtree(work)
        _remove_empty(missing)


def _remove_empty(folders: list[Path]) -> None:
    """Remove the folders, innermost first, that are still empty."""
    for folder in folders:
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
