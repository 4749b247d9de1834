"""Bytes of a request to a Mask R-CNN of COCO's 81 classes, counted on the wire by kind of export."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from deploy.export import dialects, write
from deploy.export.graphs import Graph
from deploy.export.report.ask import KINDS, as_png, served
from deploy.export.source import Source, of_graph
from deploy.tools.tables import table
from handler.backend.metadata import META_HEAD
from handler.config import Config


@dataclass(frozen=True)
class Load:
    """A request to weigh: kind of export, size of the image, and the greatest mask probability of the answer."""

    name: str
    kind: str
    image_hw: tuple[int, int] = (1024, 1024)
    top: float = 0.5  # up to here the article's codes are 0..127, a byte each


LOADS = (
    Load("float32", "float32"),
    Load("article", "article"),
    Load("boundary", "boundary"),
    Load("article, probabilities up to 1", "article", top=1.0),
    Load("boundary, 1024 x 576", "boundary", (576, 1024)),
)
ROWS, MASK_PX, CLASSES = 100, 28, 81  # of Matterport's model for COCO
NEGATIVE_EXTRA = 9  # bytes that a negative code takes more than another, as a varint


@dataclass(frozen=True)
class Weight:
    """Bytes of one request and of its answer, and the detections in it."""

    up_bytes: int
    down_bytes: int
    detections: int

    @property
    def total_bytes(self) -> int:
        """Both ways."""
        return self.up_bytes + self.down_bytes


def full_answers(top: float) -> Source:
    """A source that always finds 100 objects: Matterport's inputs and outputs, probabilities uniform in 0..top."""
    rng = np.random.default_rng(0)
    corner = rng.uniform(0.1, 0.6, (ROWS, 2))
    classes, scores = 1 + np.arange(ROWS) % (CLASSES - 1), np.linspace(0.99, 0.7, ROWS)
    rows = np.column_stack([corner, corner + 0.2, classes, scores]).astype(np.float32)[None]
    size = (1, ROWS, MASK_PX, MASK_PX, CLASSES)

    def call(_: Mapping[str, tf.Tensor]) -> Mapping[str, tf.Tensor]:
        return {"mrcnn_detection": tf.constant(rows), "mrcnn_mask": tf.random.stateless_uniform(size, (1, 2), 0, top)}

    shapes = ([None, None, None, 3], [None, META_HEAD + CLASSES], [None, None, 4])
    outputs = zip(dialects.OUTPUTS, (rows.shape, size), strict=True)
    graph = Graph(
        inputs={
            name: tf.TensorSpec(shape, tf.float32, name) for name, shape in zip(dialects.INPUTS, shapes, strict=True)
        },
        outputs={name: tf.TensorSpec(shape, tf.float32, name) for name, shape in outputs},
        call=call,
        owned=(),
        description=f"{ROWS} detections",
    )
    return of_graph(graph, Config.from_environ({}).matterport, {})


def weigh(work: Path) -> dict[str, Weight]:
    """Count the bytes of LOADS on the wire, in the stand-in's default encoding; exports go into ``work``."""
    weights = {}
    for load in tqdm(LOADS, desc="bytes", unit="request"):
        source, base = full_answers(load.top), work / f"{load.kind} {load.top}"
        if not base.exists():
            write.write(KINDS[load.kind](source), base)
        with served(base, source.settings) as ask:
            seen = ask(as_png(np.full((*load.image_hw, 3), 128, np.uint8)))
        weights[load.name] = Weight(seen.up_bytes, seen.down_bytes, len(seen.masks))
    return weights


def describe_bytes(weights: Mapping[str, Weight]) -> str:
    """Return the table of bytes, the total with its ratio to float32's, and what became of codes above 127."""
    whole = weights["float32"].total_bytes
    cells = []
    for name, one in weights.items():
        counts = (one.up_bytes, one.down_bytes, one.total_bytes)
        cells.append(
            [name, *(f"{count:,}" for count in counts), f"1/{whole / one.total_bytes:.1f}".removesuffix("/1.0")]
        )
    what = f"1024 x 1024, {ROWS} detections, {CLASSES} classes"
    negative = (weights["article, probabilities up to 1"].down_bytes - weights["article"].down_bytes) // NEGATIVE_EXTRA
    return (
        f"{table([what, 'bytes up', 'bytes down', 'total', ''], cells)}\n"
        f"of the article's codes above 127, {negative:,} wrapped on this processor, at ten bytes each; the others "
        "saturated, at one"
    )
