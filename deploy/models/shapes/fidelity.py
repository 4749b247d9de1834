"""How much an int8 export changes the answer of the bundled model, and what it saves on the wire.

python -m deploy.models.shapes.fidelity asks the source in TensorFlow, then each export on the stand-in in both of
TensorFlow Serving's encodings, through the function's own client. It prints the differences of boxes, scores and masks
over held-out scenes, and the bytes of a request.
"""

import argparse
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from deploy.export import write
from deploy.export.report.ask import KINDS, Seen, as_png, in_tensorflow, served
from deploy.export.report.compare import LARGE_PX, Fidelity, compare, saturated_share, summarise
from deploy.export.report.weigh import describe_bytes, weigh
from deploy.export.source import Source
from deploy.models.shapes import dataset, evaluate, export
from deploy.tools.tables import table
from handler import pipeline

ENCODINGS = {"proto fields": False, "tensor_content": True}  # TensorFlow Serving's default first


def ask_all(source: Source, images: NDArray[np.uint8], work: Path) -> dict[str, list[Seen]]:
    """Ask float32 in TensorFlow, and each export in each encoding, for ``images`` uint8 [n, h, w, 3].

    Exports go into ``work``. Return the answers by ``float32`` and ``kind, encoding``.
    """
    ask = in_tensorflow(source)
    answers = {"float32": [ask(as_png(image)) for image in tqdm(images, desc="float32", unit="image")]}
    for kind in ("article", "boundary"):
        write.write(KINDS[kind](source), work / kind)
        for encoding, tensor_content in ENCODINGS.items():
            name = f"{kind}, {encoding}"
            with served(work / kind, source.settings, tensor_content=tensor_content) as ask:
                answers[name] = [ask(as_png(image)) for image in tqdm(images, desc=name, unit="image")]
    return answers


def against_float32(answers: Mapping[str, Sequence[Seen]]) -> dict[str, Fidelity]:
    """Return the figures of each export."""
    return {
        name: summarise([compare(*pair) for pair in zip(answers["float32"], others, strict=True)])
        for name, others in answers.items()
        if name != "float32"
    }


class Given(evaluate.Model):
    """A model whose answers are there already, in the order of the images."""

    def __init__(self, answers: Sequence[Seen]) -> None:
        self._next = iter(answers)

    def segment(self, image: NDArray[np.uint8]) -> tuple[pipeline.Instance, ...]:  # noqa: ARG002 - it is its turn
        """Return the next answer."""
        return next(self._next).instances


def figures_of(answers: Mapping[str, Sequence[Seen]], scenes: dataset.Dataset) -> dict[str, dict[str, Any]]:
    """Return a row of figures for float32 and for each export, mask AP (COCO's, 0..1) among them."""
    precision = {name: evaluate.average_precision(Given(seen), scenes)["mask_ap"] for name, seen in answers.items()}
    share = saturated_share(answers["float32"])
    instances = sum(len(one.instances) for one in answers["float32"])
    rows: dict[str, dict[str, Any]] = {"float32": {"instances": instances, "mask_ap": precision["float32"]}}
    for name, row in against_float32(answers).items():
        change = precision[name] - precision["float32"]
        rows[name] = {**asdict(row), "mask_ap": precision[name], "mask_ap_difference": change}
        if name.startswith("article"):
            rows[name]["saturated_share"] = share
    return rows


COLUMNS = {  # head -> figure, format
    "instances": ("instances", "d"),
    "lost": ("lost", "d"),
    "extra": ("extra", "d"),
    "classes": ("class_changes", "d"),
    "IoU mean": ("iou_mean", ".4f"),
    "large": ("iou_mean_large", ".4f"),
    "min": ("iou_min_large", ".3f"),
    "boxes": ("box_difference", ".1e"),
    "scores": ("score_difference", ".1e"),
    "mask AP": ("mask_ap", ".4f"),
    "change": ("mask_ap_difference", "+.4f"),
    "saturated": ("saturated_share", ".1%"),
}


def describe(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the table of differences, with what its columns mean."""
    cells = [
        [name, *(format(row[key], form) if row.get(key) is not None else "" for key, form in COLUMNS.values())]
        for name, row in rows.items()
    ]
    return (
        f"{table(['against float32', *COLUMNS], cells)}\n"
        f"large and min: mean and least IoU of masks above {LARGE_PX} px; boxes (normalised) and scores: the greatest\n"
        "difference; classes: lost and extra at one place; mask AP: at the export's own least score; saturated: share\n"
        "of the mask probabilities that the recipe has no code for"
    )


def main() -> None:
    """Parse the command line, measure, print and write."""
    parser = argparse.ArgumentParser(prog="python -m deploy.models.shapes.fidelity", description=__doc__)
    parser.add_argument("--scenes", type=int, default=200, help="held-out scenes (default %(default)s)")
    parser.add_argument("--work", type=Path, default=Path("build/model"), help="folder for scenes and the result")
    args = parser.parse_args()
    source = export.source()
    scenes = dataset.load_or_draw(args.work / "held_out.npz", dataset.HELD_OUT_SEED, args.scenes)
    with tempfile.TemporaryDirectory() as folder:
        rows = figures_of(ask_all(source, scenes.images, Path(folder)), scenes)
        weights = weigh(Path(folder))
    print(f"{describe(rows)}\n\n{describe_bytes(weights)}")
    written = {
        "scenes": args.scenes,
        "against_float32": rows,
        "bytes": {key: {**asdict(one), "total_bytes": one.total_bytes} for key, one in weights.items()},
    }
    (args.work / "fidelity.json").write_text(json.dumps(written, indent=1))


if __name__ == "__main__":
    main()
