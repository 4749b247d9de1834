"""The folder of images that a report reads, and the page that it writes, whole or not at all."""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from deploy.export.graphs import ExportError
from deploy.export.workplace import workplace
from handler.errors import SegmentError
from handler.image.decode import Limits, decode_image

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
LISTED = 3  # reasons in an error


def files_of(folder: Path) -> tuple[list[Path], list[str]]:
    """Return the files of the folder that are images by their name, in order, and the names of all others."""
    wanted = "--images must be a folder with JPEG, PNG or WebP images"
    try:
        files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    except OSError as error:
        raise ExportError(f"{wanted}, got {folder}: {error.strerror}") from error
    if not files:
        raise ExportError(f"{wanted}, got {folder}, which has no files")
    images = [path for path in files if path.suffix.lower() in SUFFIXES]
    return images, [name_of(path) for path in files if path.suffix.lower() not in SUFFIXES]


def name_of(path: Path) -> str:
    """Return the file's name as text that can be written, whatever bytes it is made of."""
    return path.name.encode("utf-8", "replace").decode()


def readable(paths: Sequence[Path], others: Sequence[str], folder: Path) -> tuple[list[Path], list[dict[str, str]]]:
    """Return the images that can be read, and name and reason of the rest. Raises ExportError where all are broken."""
    good, skipped = [], []
    for path in paths:
        try:
            decode_image(path.read_bytes(), Limits())
            good.append(path)
        except (SegmentError, OSError) as error:
            reason = str(getattr(error, "strerror", None) or error)
            skipped.append({"name": name_of(path), "reason": reason})
            print(f"skipped {name_of(path)}: {reason}", file=sys.stderr)
    if not good:
        reasons = [f"{one['name']} ({one['reason']})" for one in skipped[:LISTED]]
        reasons += [f"{len(skipped) - LISTED} more"] * (len(skipped) > LISTED)
        reasons += [f"{len(others)} of other kinds by their names ({', '.join(others[:LISTED])})"] if others else []
        wanted = "--images must have an image that can be read"
        raise ExportError(f"{wanted}, got {len(paths) + len(others)} files in {folder}: {'; '.join(reasons)}")
    return good, skipped


@contextmanager
def beside(output: Path) -> Iterator[Callable[[str, str], None]]:
    """A function that puts page and figures in their places; where it is not called nothing is left.

    Raises ExportError, before anything is measured, where ``output`` cannot be written.
    """
    wanted = "--output must be a page, .html, that can be written"
    if output.suffix.lower() not in (".html", ".htm") or output.is_dir() or output.with_suffix(".json").is_dir():
        raise ExportError(f"{wanted}, got {output}{', or its .json, which is a folder' * output.is_dir()}")
    beside = output.with_suffix(".json")
    if beside.exists() and not _is_report(beside):
        raise ExportError(f"{wanted}, with its figures in {beside.name}, which is there and is something else")
    with workplace(output.parent, wanted) as work:
        yield partial(_into_place, work, output)


def _is_report(path: Path) -> bool:
    try:
        figures = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(figures, dict) and {"verdict", "kinds", "images"} <= set(figures)


def _into_place(work: Path, output: Path, text: str, figures: str) -> None:
    """Write both in ``work``, then rename them to ``output`` and the .json beside it."""
    beside = output.with_suffix(".json")
    fresh = not beside.exists()
    try:
        (work / "page").write_text(text, encoding="utf-8")
        (work / "figures").write_text(figures, encoding="utf-8")
        (work / "figures").replace(beside)
        (work / "page").replace(output)
    except OSError as error:
        if fresh:
            beside.unlink(missing_ok=True)
        raise ExportError(f"--output must be a page that can be written, got {output}: {error.strerror}") from error
