"""What each export costs and saves on one's own images: one page to look at, and the same figures as JSON beside it.

Each image goes to the float32 source in TensorFlow, and to each export on the stand-in for TensorFlow Serving, as the
function would ask.
"""

import json
import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from deploy.export import write as versions
from deploy.export.graphs import ExportError, reason
from deploy.export.report import page
from deploy.export.report.ask import KINDS, Ask, Seen, in_tensorflow, served
from deploy.export.report.compare import Comparison, compare, saturated_share, summarise
from deploy.export.report.files import beside, files_of, name_of, readable
from deploy.export.report.histograms import histograms
from deploy.export.report.pictures import changes_of, draw_all
from deploy.export.source import Source
from handler.errors import SegmentError
from handler.image.decode import Limits, decode_image

PICTURE_PX, LEAST_PX, AT_FULL_SIZE = 960, 320, 20  # longer side of a picture on the page, for up to so many images


@dataclass(frozen=True)
class Shot:
    """One image, asked of all: its figures as the JSON has them, what they come from, and pictures as data: URLs.

    ``pictures``: by kind, and by ``KIND difference``.
    """

    figures: dict[str, Any]
    reference: Seen
    comparisons: Mapping[str, Comparison]
    pictures: Mapping[str, str]


def write_report(source: Source, folder: Path, output: Path) -> Path:
    """Measure on every image of ``folder``, write the page ``output`` (.html) and a .json beside it; return the page.

    An image that cannot be read is skipped, and named on stderr and on the page. Raises ExportError if no image can be
    read, if the output cannot be written, or if an export does not answer. A failure leaves nothing behind.
    """
    paths, others = files_of(folder)
    with beside(output) as save:
        paths, skipped = readable(paths, others, folder)
        side = round(max(LEAST_PX, PICTURE_PX * min(1.0, math.sqrt(AT_FULL_SIZE / len(paths)))))
        with tempfile.TemporaryDirectory() as exports, _asked(source, Path(exports)) as asked:
            shots = [_shot(path, asked, side) for path in tqdm(paths, desc="report", unit="image")]
        figures = _figures(source, shots, skipped, others)
        save(page.render(figures, [shot.pictures for shot in shots]), json.dumps(figures, indent=1))
    return output


@contextmanager
def _asked(source: Source, exports: Path) -> Iterator[dict[str, Ask]]:
    """Whom to ask: ``source`` in TensorFlow, and each kind that fits its dialect, exported and served."""
    kinds = list(KINDS) if source.dialect == "matterport" else ["boundary"]
    with ExitStack() as servers:
        asked = {"source": in_tensorflow(source)}
        for kind in tqdm(kinds, desc="exporting", unit="export"):
            versions.write(KINDS[kind](source), exports / kind)
            asked[kind] = servers.enter_context(served(exports / kind, source.settings))
        yield asked


def _shot(path: Path, asked: Mapping[str, Ask], side: int) -> Shot:
    """Ask all about one image; its pictures are at most ``side`` pixels long."""
    data = path.read_bytes()
    seen = {kind: _answer(ask, data, kind, name_of(path)) for kind, ask in asked.items()}
    reference = seen.pop("source")
    photo = decode_image(data, Limits()).upright()
    others = {kind: one for kind, one in seen.items() if kind != "float32"}
    comparisons = {kind: compare(reference, other) for kind, other in others.items()}
    changes = {kind: changes_of(reference, others[kind], comparisons[kind], photo) for kind in others}
    figures = {
        "name": name_of(path),
        "height": photo.height,
        "width": photo.width,
        "instances": len(reference.instances),
        "saturated_share": saturated_share([reference]) if "article" in others else None,
        "bytes": {
            kind: {"up": one.up_bytes, "down": one.down_bytes} for kind, one in {"float32": reference, **seen}.items()
        },
        "kinds": {
            kind: {
                **asdict(summarise([comparisons[kind]])),
                "pixels_gone": int(gone.sum()),
                "pixels_come": int(come.sum()),
            }
            for kind, (gone, come) in changes.items()
        },
    }
    return Shot(
        figures, reference, comparisons, draw_all(photo, reference, others, comparisons, changes=changes, side=side)
    )


def _answer(ask: Ask, data: bytes, kind: str, name: str) -> Seen:
    try:
        return ask(data)
    except (SegmentError, tf.errors.OpError, ValueError) as error:
        raise ExportError(f"the model must answer for {name}, as {kind}, got: {reason(error)}") from error


def _figures(
    source: Source, shots: Sequence[Shot], skipped: Sequence[Mapping[str, str]], others: Sequence[str]
) -> dict[str, Any]:
    """Return all that the JSON and the page have; bytes are means over the images."""
    kinds, images = list(shots[0].comparisons), [shot.figures for shot in shots]
    by_kind = {kind: [shot.comparisons[kind] for shot in shots] for kind in kinds}
    figures = {
        "source": source.graph.description,
        "dialect": source.dialect,
        "labels": {str(key): name for key, name in source.labels.items()},
        "instances": sum(one["instances"] for one in images),
        "saturated_share": saturated_share([shot.reference for shot in shots]) if "article" in kinds else None,
        "bytes": {
            kind: {way: float(np.mean([one["bytes"][kind][way] for one in images])) for way in ("up", "down")}
            for kind in images[0]["bytes"]
        },
        "kinds": {
            kind: {
                **asdict(summarise(comparisons)),
                **{key: sum(one["kinds"][kind][key] for one in images) for key in ("pixels_gone", "pixels_come")},
            }
            for kind, comparisons in by_kind.items()
        },
        "histograms": histograms(by_kind),
        "images": images,
        "skipped": list(skipped),
        "other_files": list(others),
    }
    return {"verdict": page.verdict(figures), **figures}
