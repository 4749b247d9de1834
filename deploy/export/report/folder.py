"""What each export costs and saves on one's own images: a page to look at, and its figures as JSON beside it.

Each image goes to the float32 source in TensorFlow, and to each export on the stand-in for TensorFlow Serving, as the
function would ask.
"""

import json
import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from deploy.export import check, signatures
from deploy.export import write as versions
from deploy.export.report import page
from deploy.export.report.compare import Comparison, compare, saturated_share, summarise
from deploy.export.report.files import file_name, list_images, page_writer, readable_images
from deploy.export.report.histograms import histograms
from deploy.export.report.pictures import changed_pixels, draw_all
from deploy.export.report.segment import RECIPES, Segment, Segmentation, ask, in_tensorflow, on_model_server
from deploy.export.source import Source
from handler.image.decode import Limits, decode_image

TENSOR = ("way", "name", "model", "int8")  # the columns of the table of tensors
EXPORTS = RECIPES | {"int8": partial(signatures.int8, jpeg=False)}  # the report sends int8 images alone
PICTURE_PX, LEAST_PX, AT_FULL_SIZE = 960, 320, 20  # longer side of a picture on the page, for up to so many images


@dataclass(frozen=True)
class Measured:
    """One image: its figures as in the JSON, what they come from, and pictures as data: URLs.

    ``pictures``: by kind, and by ``KIND difference``.
    """

    figures: dict[str, Any]
    reference: Segmentation
    comparisons: Mapping[str, Comparison]
    pictures: Mapping[str, str]


def write_report(source: Source, folder: Path, output: Path, seen: Sequence[str] = ()) -> Path:
    """Measure on every image of ``folder``, write the page ``output`` (.html) and a .json beside it; return the page.

    ``seen``: lines of :func:`deploy.export.settle.settle`, which the page shows. An image that cannot be read is
    skipped, and named on stderr and on the page. Raises ExportError if no image can be read, if the output cannot be
    written, or if an export does not answer. A failure leaves nothing behind.
    """
    paths, others = list_images(folder)
    with page_writer(output) as save:
        paths, skipped = readable_images(paths, others, folder)
        side = round(max(LEAST_PX, PICTURE_PX * min(1.0, math.sqrt(AT_FULL_SIZE / len(paths)))))
        exported = {kind: EXPORTS[kind](source) for kind in (EXPORTS if source.is_plain else ["int8"])}
        with tempfile.TemporaryDirectory() as scratch, _models(source, exported, Path(scratch)) as models:
            measured = [_measure(path, models, side) for path in tqdm(paths, desc="report", unit="image")]
        tensors = check.tensors(source, exported["int8"])
        figures = {**_figures(source, tensors, measured, skipped, others), "seen": seen}
        save(page.render(figures, [one.pictures for one in measured]), json.dumps(figures, indent=1))
    return output


@contextmanager
def _models(source: Source, exported: Mapping[str, signatures.Exported], folder: Path) -> Iterator[dict[str, Segment]]:
    """Yield the models to ask: ``source`` in TensorFlow, and each export, written to ``folder`` and served."""
    with ExitStack() as servers:
        models = {"source": in_tensorflow(source)}
        for kind, export in tqdm(exported.items(), desc="exporting", unit="export"):
            versions.write(export, folder / kind)
            models[kind] = servers.enter_context(on_model_server(folder / kind, source.settings))
        yield models


def _measure(path: Path, models: Mapping[str, Segment], side: int) -> Measured:
    """Ask all models about one image; its pictures are at most ``side`` pixels long."""
    data = path.read_bytes()
    found = {kind: ask(segment, data, kind, file_name(path)) for kind, segment in models.items()}
    reference = found.pop("source")
    photo = decode_image(data, Limits()).upright()
    others = {kind: one for kind, one in found.items() if kind != "float32"}
    comparisons = {kind: compare(reference, other) for kind, other in others.items()}
    changes = {kind: changed_pixels(reference, others[kind], comparisons[kind], photo) for kind in others}
    figures = {
        "name": file_name(path),
        "height": photo.height,
        "width": photo.width,
        "instances": len(reference.instances),
        "saturated_share": saturated_share([reference]) if "int8-cast" in others else None,
        "bytes": {
            kind: {"up": one.up_bytes, "down": one.down_bytes} for kind, one in {"float32": reference, **found}.items()
        },
        "kinds": {
            kind: {
                **asdict(summarise([comparisons[kind]])),
                "pixels_gone": int(lost.sum()),
                "pixels_come": int(gained.sum()),
            }
            for kind, (lost, gained) in changes.items()
        },
    }
    pictures = draw_all(photo, reference, others, comparisons, changes=changes, side=side)
    return Measured(figures, reference, comparisons, pictures)


def _figures(
    source: Source,
    tensors: Sequence[tuple[str, ...]],
    measured: Sequence[Measured],
    skipped: Sequence[Mapping[str, str]],
    others: Sequence[str],
) -> dict[str, Any]:
    """Return the figures of the JSON and the page; bytes are means over the images."""
    kinds, images = list(measured[0].comparisons), [one.figures for one in measured]
    by_kind = {kind: [one.comparisons[kind] for one in measured] for kind in kinds}
    figures = {
        "source": source.graph.description,
        "dialect": source.dialect,
        "because": check.describe_source(source),
        "tensors": [dict(zip(TENSOR, row, strict=True)) for row in tensors],
        "labels": {str(key): name for key, name in source.labels.items()},
        "instances": sum(one["instances"] for one in images),
        "saturated_share": saturated_share([one.reference for one in measured]) if "int8-cast" in kinds else None,
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
