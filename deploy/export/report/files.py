"""The folder of images that a report reads, and the page that it writes, whole or not at all."""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from deploy.export.graphs import ExportError
from deploy.export.scratch import scratch_folder
from handler.errors import SegmentError
from handler.image.decode import Limits, decode_image

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
LISTED = 3  # reasons in an error


def list_images(folder: Path) -> tuple[list[Path], list[str]]:
    """Return the files of the folder that are images by their suffix, in order, and the names of all others."""
    expected = "--images must be a folder with JPEG, PNG or WebP images"
    try:
        files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    except OSError as error:
        raise ExportError(f"{expected}, got {folder}: {error.strerror}") from error
    if not files:
        raise ExportError(f"{expected}, got {folder}, which has no files")
    images = [path for path in files if path.suffix.lower() in SUFFIXES]
    return images, [file_name(path) for path in files if path.suffix.lower() not in SUFFIXES]


def file_name(path: Path) -> str:
    """Return the file's name as text that can be written, whatever bytes it is made of."""
    return path.name.encode("utf-8", "replace").decode()


def readable_images(
    paths: Sequence[Path], others: Sequence[str], folder: Path
) -> tuple[list[Path], list[dict[str, str]]]:
    """Return the images that can be read, and name and reason of the rest. Raises ExportError if none can be read."""
    good, skipped = [], []
    for path in paths:
        try:
            decode_image(path.read_bytes(), Limits())
            good.append(path)
        except (SegmentError, OSError) as error:
            reason = str(getattr(error, "strerror", None) or error)
            skipped.append({"name": file_name(path), "reason": reason})
            print(f"skipped {file_name(path)}: {reason}", file=sys.stderr)
    if not good:
        reasons = [f"{one['name']} ({one['reason']})" for one in skipped[:LISTED]]
        reasons += [f"{len(skipped) - LISTED} more"] * (len(skipped) > LISTED)
        reasons += [f"{len(others)} of other kinds by their names ({', '.join(others[:LISTED])})"] if others else []
        files = f"{len(paths) + len(others)} files in {folder}"
        raise ExportError(f"--images must have an image that can be read, got {files}: {'; '.join(reasons)}")
    return good, skipped


@contextmanager
def page_writer(output: Path) -> Iterator[Callable[[str, str], None]]:
    """Yield a function that writes page and figures to ``output`` and the .json beside it.

    Raises ExportError, before anything is measured, if ``output`` cannot be written.
    """
    expected = "--output must be a page, .html, that can be written"
    figures = output.with_suffix(".json")
    if output.suffix.lower() not in (".html", ".htm") or output.is_dir() or figures.is_dir():
        raise ExportError(f"{expected}, got {output}{', or its .json, which is a folder' * output.is_dir()}")
    if figures.exists() and not _is_report(figures):
        raise ExportError(f"{expected}, with its figures in {figures.name}, which is there and is something else")
    with scratch_folder(output.parent, expected) as scratch:
        yield partial(_write_both, scratch, output)


def _is_report(path: Path) -> bool:
    try:
        figures = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(figures, dict) and {"verdict", "kinds", "images"} <= set(figures)


def _write_both(scratch: Path, output: Path, page: str, figures: str) -> None:
    """Write both in ``scratch``, then rename them to ``output`` and the .json beside it."""
    target = output.with_suffix(".json")
    is_new = not target.exists()
    try:
        (scratch / "page").write_text(page, encoding="utf-8")
        (scratch / "figures").write_text(figures, encoding="utf-8")
        (scratch / "figures").replace(target)
        (scratch / "page").replace(output)
    except OSError as error:
        if is_new:
            target.unlink(missing_ok=True)
        raise ExportError(f"--output must be a page that can be written, got {output}: {error.strerror}") from error
