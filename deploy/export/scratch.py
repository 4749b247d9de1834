"""A scratch folder beside the target: results are renamed into place, and a failure leaves nothing behind."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deploy.export.graphs import ExportError


@contextmanager
def scratch_folder(parent: Path, expected: str) -> Iterator[Path]:
    """Yield a new folder in ``parent``, which is made if it is missing, and removed again if it stays empty.

    Raises ExportError, whose text begins with ``expected``, if ``parent`` cannot be written.
    """
    missing = [folder for folder in (parent, *parent.parents) if not folder.exists()]
    try:
        parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=".export-", dir=parent))
    except OSError as error:
        _remove_empty(missing)
        raise ExportError(f"{expected}, got {parent}: {error.strerror}") from error
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch)
        _remove_empty(missing)


def _remove_empty(folders: list[Path]) -> None:
    """Remove those of the folders, innermost first, that are still empty."""
    for folder in folders:
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
