"""How much an int8 export changes the answer: the same images through the float32 export and through it.

python -m deploy.export.fidelity serves each export on the stand-in, in both of TensorFlow Serving's
encodings, asks through the function's own client, and prints the differences of boxes, scores and masks.
"""

from __future__ import annotations

import argparse
import io
import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as rle
from tqdm import tqdm

from deploy.export import signatures, write
from deploy.export.source import Source, from_builder
from deploy.local.model_server.flags import Flags
from deploy.local.model_server.server import ModelServer
from deploy.model import bundled, dataset
from handler import pipeline
from handler.contract import ModelContract
from handler.serving import ModelClient
from handler.signature import contract_from_metadata
from handler.wire import Answer, Expected

LARGE_PX = 200  # masks above this area have to be right one by one, smaller ones on average
MATCH_IOU = 0.5  # a detection of the same class that overlaps its counterpart less is another one
KINDS: dict[str, Callable[[Source], signatures.Exported]] = {
    "float32": signatures.float32,
    "article": signatures.article,
    "boundary": signatures.boundary,
}


@dataclass(frozen=True)
class Seen:
    """One image's answer: detections float32 (n, 6) as the model gave them, and the instances made of them."""

    detections: NDArray[np.float32]
    instances: tuple[pipeline.Instance, ...]
    image_hw: tuple[int, int]

    def codes(self) -> list[dict[str, Any]]:
        """The masks as pycocotools takes them."""
        return [{"size": list(self.image_hw), "counts": instance.rle} for instance in self.instances]


@dataclass(frozen=True)
class Fidelity:
    """Differences from float32 over all instances. IoUs, boxes (normalised) and scores are of the matched ones.

    `lost` are instances of float32 without a counterpart, `extra` those of the other without one.
    """

    instances: int
    lost: int
    extra: int
    iou_mean: float
    iou_min_large: float
    box_difference: float
    score_difference: float


class Asker:
    """Puts images to one served model, through the function's client."""

    def __init__(self, address: str) -> None:
        derive = partial(contract_from_metadata, settings=bundled.SETTINGS)
        self.client = ModelClient(address, "shapes", 60.0, derive)

    def __call__(self, image: NDArray[np.uint8]) -> Seen:
        """Return what the model sees in an image uint8 (h, w, 3)."""
        body = io.BytesIO()
        Image.fromarray(image).save(body, "PNG", compress_level=0)
        return self.client.run(partial(self._ask, body.getvalue()))

    def _ask(self, data: bytes, contract: ModelContract, predict: pipeline.Predict) -> Seen:
        answers: list[Answer] = []

        def listening(inputs: Mapping[str, NDArray[Any]], expected: tuple[Expected, ...]) -> Answer:
            answers.append(predict(inputs, expected))
            return answers[-1]

        result = pipeline.segment(data, pipeline.Options(), contract, listening, 1 << 26)
        rows = answers[-1].outputs[contract.detections.name][0]
        return Seen(rows[rows[:, 4] > 0], result.instances, result.image_hw)


@contextmanager
def served(base: Path, *, tensor_content: bool) -> Iterator[Asker]:
    """The export under `base` on a stand-in of its own, in one of the two encodings."""
    flags = Flags(
        port=0, model_name="shapes", model_base_path=str(base), enable_serialization_as_tensor_content=tensor_content
    )
    with ModelServer(flags) as server:
        asker = Asker(server.target)
        try:
            yield asker
        finally:
            asker.client.close()


def compare(pairs: Iterable[tuple[Seen, Seen]]) -> Fidelity:
    """Match instances of the same class by mask overlap, best first, and sum up. Pairs are (float32, other)."""
    overlaps: list[float] = []
    large: list[float] = []
    boxes, scores, total, extra = 0.0, 0.0, 0, 0
    for reference, other in pairs:
        total += len(reference.instances)
        matches = match(reference, other)
        extra += len(other.instances) - len(matches)
        for mine, its, overlap in matches:
            overlaps.append(overlap)
            if reference.instances[mine].area > LARGE_PX:
                large.append(overlap)
            difference = np.abs(reference.detections[mine] - other.detections[its])
            boxes, scores = max(boxes, float(difference[:4].max())), max(scores, float(difference[5]))
    return Fidelity(
        instances=total,
        lost=total - len(overlaps),
        extra=extra,
        iou_mean=float(np.mean(overlaps)) if overlaps else 0.0,
        iou_min_large=min(large, default=0.0),
        box_difference=boxes,
        score_difference=scores,
    )


def match(mine: Seen, its: Seen) -> list[tuple[int, int, float]]:
    """Pairs (index in mine, index in its, mask IoU) of one class with IoU >= MATCH_IOU, each index once."""
    if not mine.instances or not its.instances:
        return []
    overlap = np.asarray(rle.iou(mine.codes(), its.codes(), [0] * len(its.instances)), np.float64)
    same = [[a.class_id == b.class_id for b in its.instances] for a in mine.instances]
    overlap = np.where(same, overlap, 0.0)
    matches = []
    while overlap.max() >= MATCH_IOU:
        a, b = np.unravel_index(int(overlap.argmax()), overlap.shape)
        matches.append((int(a), int(b), float(overlap[a, b])))
        overlap[a, :] = overlap[:, b] = 0.0
    return matches


def measure(source: Source, images: NDArray[np.uint8], work: Path) -> dict[str, Fidelity]:
    """Export `source` every way into `work`, ask all for `images` uint8 (n, h, w, 3): figures by `kind, encoding`."""
    for kind, build in KINDS.items():
        write.write(build(source), work / kind)
    with served(work / "float32", tensor_content=True) as ask:
        reference = [ask(image) for image in tqdm(images, desc="float32", unit="image")]
    figures = {}
    for kind in ("article", "boundary"):
        for tensor_content in (False, True):
            name = f"{kind}, {'tensor_content' if tensor_content else 'proto fields'}"
            with served(work / kind, tensor_content=tensor_content) as ask:
                answers = [ask(image) for image in tqdm(images, desc=name, unit="image")]
            figures[name] = compare(zip(reference, answers, strict=True))
    return figures


def main() -> None:
    """Parse the command line, measure, print and write."""
    parser = argparse.ArgumentParser(prog="python -m deploy.export.fidelity", description=__doc__)
    parser.add_argument("--weights", type=Path, default=bundled.WEIGHTS)
    parser.add_argument("--scenes", type=int, default=200, help="held-out scenes (default %(default)s)")
    parser.add_argument("--work", type=Path, default=Path("build/model"), help="folder for scenes and the result")
    args = parser.parse_args()
    source = from_builder(bundled.BUILDER, args.weights, bundled.SETTINGS)
    scenes = dataset.load_or_draw(args.work / "held_out.npz", dataset.HELD_OUT_SEED, args.scenes)
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(source, scenes.images, Path(folder))
    heads = ("instances", "lost", "extra", "IoU mean", "IoU min", "boxes", "scores")
    print(f"{'against float32':<26}" + "".join(f"{head:>11}" for head in heads))
    for name, row in figures.items():
        cells = f"{row.instances:>11}{row.lost:>11}{row.extra:>11}{row.iou_mean:>11.4f}{row.iou_min_large:>11.3f}"
        print(f"{name:<26}{cells}{row.box_difference:>11.1e}{row.score_difference:>11.1e}")
    print(f"IoU min is over masks above {LARGE_PX} px; boxes and scores are the greatest difference")
    (args.work / "fidelity.json").write_text(json.dumps({name: asdict(row) for name, row in figures.items()}, indent=1))


if __name__ == "__main__":
    main()
