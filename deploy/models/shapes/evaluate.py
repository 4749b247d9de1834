"""Measure the bundled model: average precision on held-out scenes, and the coins of a real photograph.

``python -m deploy.models.shapes.evaluate`` prints the model card's figures and writes build/model/evaluation.json.
"""

import argparse
import contextlib
import io
import json
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as rle
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from tqdm import tqdm

from deploy.models.shapes import bundled, coins, dataset, network, scenes
from handler import pipeline
from handler.image.decode import Limits
from handler.model.contract import DetectionOutput, ImageInput, MaskOutput, MetaInput, ModelContract
from handler.options import Options
from handler.types import Inputs, Prediction

EVERY_SCORE = 0.05  # average precision counts the weak detections too
COIN_WIDTHS = (256, 384, 512, 640, 1024)

CONTRACT = ModelContract(
    image=ImageInput(dtype="float32", mean=bundled.SETTINGS.mean, padded=True),
    detections=DetectionOutput(),
    masks=MaskOutput(dtype="float32", per_class=True),
    resize=bundled.SETTINGS.resize,
    labels=dict(enumerate(bundled.SETTINGS.labels, start=1)),
    meta=MetaInput(num_classes=network.NUM_CLASSES),
    anchors=bundled.SETTINGS.anchors,
    source="keras",
)


class Model:
    """The float32 model in this process, asked as the function asks it: same molding, same masks."""

    def __init__(self, weights: Path, min_score: float) -> None:
        model = network.join(network.parts(), network.Cutoffs(min_score=min_score))
        model.load_weights(weights)
        self._run = tf.function(lambda inputs: model(inputs, training=False), reduce_retracing=True)

    def segment(self, image: NDArray[np.uint8]) -> tuple[pipeline.Instance, ...]:
        """Return the instances in an image uint8 [h, w, 3]."""
        body = io.BytesIO()
        Image.fromarray(image).save(body, "PNG", compress_level=0)
        found = pipeline.segment(body.getvalue(), Options(), CONTRACT, self._predict, Limits())
        return found.instances

    def _predict(self, inputs: Inputs) -> Prediction:
        outputs = self._run(
            [tf.constant(inputs[name]) for name in ("input_image", "input_image_meta", "input_anchors")]
        )
        return Prediction({name: tensor.numpy() for name, tensor in outputs.items()}, version=0)


def average_precision(found: Iterable[Sequence[pipeline.Instance]], data: dataset.Dataset) -> dict[str, float]:
    """Return COCO's AP and AP50 of boxes and of masks, 0..1, for the instances ``found`` in each scene of ``data``."""
    truth = ground_truth(data)
    results = [as_coco(index, one) for index, instances in enumerate(found) for one in instances]
    figures: dict[str, float] = {}
    for kind, name in (("bbox", "box"), ("segm", "mask")):
        with contextlib.redirect_stdout(io.StringIO()):  # pycocotools reports by print
            judge = COCOeval(truth, truth.loadRes(results), kind)
            judge.evaluate()
            judge.accumulate()
            judge.summarize()
        figures |= {f"{name}_ap": float(judge.stats[0]), f"{name}_ap50": float(judge.stats[1])}
    return figures


def as_coco(image_id: int, instance: pipeline.Instance) -> dict[str, Any]:
    """Return one instance as a COCO result."""
    y1, x1, y2, x2 = instance.box
    return {
        "image_id": image_id,
        "category_id": instance.class_id,
        "score": instance.score,
        "bbox": [x1, y1, x2 - x1, y2 - y1],
        "segmentation": msgspec.to_builtins(instance.mask),
    }


def ground_truth(data: dataset.Dataset) -> COCO:
    """Return the scenes' visible masks as COCO annotations."""
    annotations: list[dict[str, Any]] = []
    for index in range(len(data)):
        for row in np.flatnonzero(data.classes[index]):
            code = rle.encode(np.asfortranarray(data.ids[index] == row + 1))
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": index,
                    "category_id": int(data.classes[index][row]),
                    "iscrowd": 0,
                    "area": float(rle.area(code)),
                    "bbox": rle.toBbox(code).tolist(),
                    "segmentation": {"size": code["size"], "counts": code["counts"].decode()},
                }
            )
    height, width = data.ids.shape[1:]
    coco = COCO()
    coco.dataset = {
        "images": [{"id": index, "height": height, "width": width} for index in range(len(data))],
        "annotations": annotations,
        "categories": [{"id": i, "name": scenes.LABELS[i]} for i in range(1, len(scenes.LABELS))],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
    return coco


def count_coins(instances: tuple[pipeline.Instance, ...], truth: NDArray[np.bool_]) -> dict[str, Any]:
    """Count coins that a circle covers (IoU >= 0.5), and all other instances as false; add the mean IoU of the hits."""
    coins_rle = rle.encode(np.asfortranarray(truth.transpose(1, 2, 0).astype(np.uint8)))
    masks = [msgspec.to_builtins(instance.mask) for instance in instances]
    overlap = np.asarray(rle.iou(masks, coins_rle, [0] * len(coins_rle))) if masks else np.zeros((0, len(truth)))
    circle = np.array([instance.label == "circle" for instance in instances], bool)
    hits = overlap * circle[:, None] >= 0.5
    found = int(hits.any(0).sum())
    best = overlap.max(0, initial=0)[hits.any(0)]
    return {"found": found, "false": len(instances) - found, "iou": float(best.mean()) if found else 0.0}


def evaluate(weights: Path, work: Path, scenes: int) -> dict[str, Any]:
    """Return all figures of the model card."""
    held_out = dataset.load_or_draw(work / "held_out.npz", dataset.HELD_OUT_SEED, scenes)
    every = Model(weights, EVERY_SCORE)
    found = (every.segment(image) for image in tqdm(held_out.images, desc="held-out scenes", unit="scene"))
    figures: dict[str, Any] = {"scenes": scenes, **average_precision(found, held_out)}
    model = Model(weights, network.Cutoffs().min_score)
    for width in COIN_WIDTHS:
        image = coins.photo(width)
        model.segment(image)  # the first run at a size builds its plan
        started = time.perf_counter()
        instances = model.segment(image)
        seconds = time.perf_counter() - started
        height_width = (image.shape[0], image.shape[1])
        figures[f"coins_{width}"] = {**count_coins(instances, coins.truth(height_width)), "seconds": seconds}
    return figures


def main() -> None:
    """Parse the command line, evaluate, print and write."""
    parser = argparse.ArgumentParser(prog="python -m deploy.models.shapes.evaluate", description=__doc__)
    parser.add_argument("--weights", type=Path, default=bundled.WEIGHTS)
    parser.add_argument("--scenes", type=int, default=200, help="held-out scenes (default %(default)s)")
    parser.add_argument("--work", type=Path, default=Path("build/model"), help="folder for scenes and the result")
    args = parser.parse_args()
    figures = evaluate(args.weights, args.work, args.scenes)
    print(f"held-out scenes     {figures['scenes']}, 192 x 192")
    for kind in ("box", "mask"):
        print(f"{kind + ' AP / AP50':<20}{figures[f'{kind}_ap']:.3f} / {figures[f'{kind}_ap50']:.3f}")
    for width in COIN_WIDTHS:
        row = figures[f"coins_{width}"]
        line = f"{row['found']} of {coins.COINS} found, {row['false']} false, mask IoU {row['iou']:.3f}"
        print(f"coins, {width:>4} px wide  {line}, {1000 * row['seconds']:.0f} ms")
    (args.work / "evaluation.json").write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
