"""How much an int8 export changes the answer of the bundled model, and what it saves on the wire.

``python -m deploy.models.shapes.fidelity`` asks the source in TensorFlow, then each export on the stand-in in both of
TensorFlow Serving's encodings, through the function's own client. It prints the differences of boxes, scores and masks
over held-out scenes, and the bytes of a request. It also counts the scenes that are answered the same, to the last bit,
if they go to the model as JPEG and as int8.
"""

import argparse
import json
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from deploy.export import write
from deploy.export.report.compare import LARGE_PX, Fidelity, compare, saturated_share, summarise
from deploy.export.report.segment import RECIPES, Segmentation, encode_jpeg, encode_png, in_tensorflow, on_model_server
from deploy.export.report.transport import describe_transport, measure_transport
from deploy.export.source import Source
from deploy.models.shapes import dataset, evaluate, export
from deploy.tools.tables import table
from handler.pipeline import Transport

ENCODINGS = {"proto fields": False, "tensor_content": True}  # TensorFlow Serving's default first


def segment_all(source: Source, images: NDArray[np.uint8], bases: Mapping[str, Path]) -> dict[str, list[Segmentation]]:
    """Segment ``images`` uint8 [n, h, w, 3] with float32 in TensorFlow, and with each export in each encoding.

    ``bases``: kind -> base path of an export. Return the segmentations by ``float32`` and ``kind, encoding``.
    """
    segment = in_tensorflow(source)
    found = {"float32": [segment(encode_png(image)) for image in tqdm(images, desc="float32", unit="image")]}
    for kind, base in bases.items():
        for encoding, tensor_content in ENCODINGS.items():
            name = f"{kind}, {encoding}"
            with on_model_server(base, source.settings, tensor_content=tensor_content) as segment:
                found[name] = [segment(encode_png(image)) for image in tqdm(images, desc=name, unit="image")]
    return found


def count_equal(source: Source, images: NDArray[np.uint8], base: Path) -> int:
    """Return for how many ``images``, sent as JPEG, both transports give the same answer to the last bit.

    ``base``: base path of the int8 export.
    """
    with ExitStack() as servers:
        ways = [
            servers.enter_context(on_model_server(base, source.settings, transport=transport))
            for transport in get_args(Transport)
        ]
        photos = [encode_jpeg(image) for image in images]
        return sum(_is_equal(*(ask(photo) for ask in ways)) for photo in tqdm(photos, desc="JPEG", unit="image"))


def _is_equal(one: Segmentation, other: Segmentation) -> bool:
    arrays = ((one.rows, other.rows), (one.masks, other.masks))
    return one.instances == other.instances and all(np.array_equal(*pair) for pair in arrays)


def against_float32(found: Mapping[str, Sequence[Segmentation]]) -> dict[str, Fidelity]:
    """Return the differences of each export."""
    return {
        name: summarise([compare(*pair) for pair in zip(found["float32"], others, strict=True)])
        for name, others in found.items()
        if name != "float32"
    }


def figures_of(found: Mapping[str, Sequence[Segmentation]], scenes: dataset.Dataset) -> dict[str, dict[str, Any]]:
    """Return a row of figures for float32 and for each export, with COCO's mask AP, 0..1."""
    precision = {
        name: evaluate.average_precision((one.instances for one in images), scenes)["mask_ap"]
        for name, images in found.items()
    }
    saturated = saturated_share(found["float32"])
    instances = sum(len(one.instances) for one in found["float32"])
    rows: dict[str, dict[str, Any]] = {"float32": {"instances": instances, "mask_ap": precision["float32"]}}
    for name, row in against_float32(found).items():
        change = precision[name] - precision["float32"]
        rows[name] = {**asdict(row), "mask_ap": precision[name], "mask_ap_difference": change}
        if name.startswith("int8-cast"):
            rows[name]["saturated_share"] = saturated
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
    """Return the table of differences, and what its columns mean."""
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
        bases = {kind: Path(folder, kind) for kind in ("int8-cast", "int8")}
        for kind, base in bases.items():
            write.write(RECIPES[kind](source), base)
        rows = figures_of(segment_all(source, scenes.images, bases), scenes)
        equal = count_equal(source, scenes.images, bases["int8"])
        transport = measure_transport(Path(folder))
    jpeg = f"as JPEG and as int8 of the same JPEG: {equal} of {args.scenes} answers are equal to the last bit"
    print(f"{describe(rows)}\n\n{jpeg}\n\n{describe_transport(transport)}")
    written = {
        "scenes": args.scenes,
        "equal_as_jpeg": equal,
        "against_float32": rows,
        "bytes": {key: {**asdict(one), "total_bytes": one.total_bytes} for key, one in transport.items()},
    }
    (args.work / "fidelity.json").write_text(json.dumps(written, indent=1))


if __name__ == "__main__":
    main()
