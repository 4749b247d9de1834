"""Bytes of a request to a Mask R-CNN of COCO's 81 classes, counted on the wire by kind of export."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from skimage import data
from tqdm import tqdm

from deploy.export import write
from deploy.export.graphs import Graph
from deploy.export.report.segment import RECIPES, encode_jpeg, on_model_server
from deploy.export.source import Source, of_graph
from deploy.tools.tables import table
from handler import pipeline
from handler.backend.metadata import META_HEAD
from handler.config import Config
from handler.model import matterport


@dataclass(frozen=True)
class Request:
    """A request to measure: kind of export, size of the image, and the highest mask probability of the answer."""

    name: str
    kind: str
    image_hw: tuple[int, int] = (1024, 1024)
    max_probability: float = 0.5  # up to here the recipe's codes are 0..127, a byte each
    transport: pipeline.Transport = "int8"


REQUESTS = (
    Request("float32", "float32"),
    Request("int8-cast", "int8-cast"),
    Request("int8", "int8"),
    Request("int8-cast, probabilities up to 1", "int8-cast", max_probability=1.0),
    Request("int8, 1024 x 576", "int8", (576, 1024)),
    Request("int8, as JPEG", "int8", transport="jpeg"),
)
ROWS, MASK_PX, CLASSES = 100, 28, 81  # of Matterport's model for COCO
NEGATIVE_EXTRA = 9  # bytes that a negative code takes more than another, as a varint


@dataclass(frozen=True)
class Transport:
    """Bytes of one request and of its answer, and the detections in it."""

    up_bytes: int
    down_bytes: int
    detections: int

    @property
    def total_bytes(self) -> int:
        """Bytes both ways."""
        return self.up_bytes + self.down_bytes


def constant_source(max_probability: float) -> Source:
    """Return a Matterport source that always finds 100 objects, with uniform probabilities in 0..max_probability."""
    rng = np.random.default_rng(0)
    corner = rng.uniform(0.1, 0.6, (ROWS, 2))
    classes, scores = 1 + np.arange(ROWS) % (CLASSES - 1), np.linspace(0.99, 0.7, ROWS)
    rows = np.column_stack([corner, corner + 0.2, classes, scores]).astype(np.float32)[None]
    size = (1, ROWS, MASK_PX, MASK_PX, CLASSES)

    def call(_: Mapping[str, tf.Tensor]) -> Mapping[str, tf.Tensor]:
        masks = tf.random.stateless_uniform(size, (1, 2), 0, max_probability)
        return {"mrcnn_detection": tf.constant(rows), "mrcnn_mask": masks}

    shapes = ([None, None, None, 3], [None, META_HEAD + CLASSES], [None, None, 4])
    inputs = zip(matterport.INPUTS, shapes, strict=True)
    outputs = zip(matterport.OUTPUTS, (rows.shape, size), strict=True)
    graph = Graph(
        inputs={name: tf.TensorSpec(shape, tf.float32, name) for name, shape in inputs},
        outputs={name: tf.TensorSpec(shape, tf.float32, name) for name, shape in outputs},
        call=call,
        owned=(),
        description=f"{ROWS} detections",
    )
    return of_graph(graph, Config.from_environ({}).matterport, {})


def measure_transport(work: Path) -> dict[str, Transport]:
    """Count the bytes of REQUESTS on the wire, in the stand-in's default encoding; exports go into ``work``."""
    measured = {}
    for request in tqdm(REQUESTS, desc="bytes", unit="request"):
        source, base = constant_source(request.max_probability), work / f"{request.kind} {request.max_probability}"
        if not base.exists():
            write.write(RECIPES[request.kind](source), base)
        with on_model_server(base, source.settings, transport=request.transport) as segment:
            found = segment(encode_jpeg(_photograph(request.image_hw)))
        measured[request.name] = Transport(found.up_bytes, found.down_bytes, len(found.masks))
    return measured


def _photograph(image_hw: tuple[int, int]) -> NDArray[np.uint8]:
    """Return the astronaut of scikit-image beside itself, uint8 [h, w, 3]: as much detail as a photograph has."""
    astronaut = data.astronaut()
    return np.tile(astronaut, (2, 2, 1))[: image_hw[0], : image_hw[1]]


def describe_transport(measured: Mapping[str, Transport]) -> str:
    """Return the table of bytes, each total with its ratio to float32's, and what became of codes above 127."""
    float32 = measured["float32"].total_bytes
    cells = []
    for name, one in measured.items():
        counts = (one.up_bytes, one.down_bytes, one.total_bytes)
        ratio = f"1/{float32 / one.total_bytes:.1f}".removesuffix("/1.0")
        cells.append([name, *(f"{count:,}" for count in counts), ratio])
    head = f"1024 x 1024, {ROWS} detections, {CLASSES} classes"
    extra_bytes = measured["int8-cast, probabilities up to 1"].down_bytes - measured["int8-cast"].down_bytes
    return (
        f"{table([head, 'bytes up', 'bytes down', 'total', ''], cells)}\n"
        f"of the recipe's codes above 127, {extra_bytes // NEGATIVE_EXTRA:,} wrapped on this processor, at ten bytes "
        "each; the others saturated, at one"
    )
