"""Kinds of export, dialects of models and their options: for a command line without TensorFlow."""

from dataclasses import dataclass
from typing import Literal, get_args

DEFAULT = "int8"
KINDS = {
    DEFAULT: "Lossless int8 image up, each detection's int8 mask down, self-describing: the one to deploy.",
    "int8-cast": "The recipe's int8 casts, which lose what does not fit, for clients that run it; Matterport only.",
    "float32": "No casts: the baseline for comparisons; Matterport only.",
    "report": "What each of them costs and saves on your own images, as a page to look at.",
}
Dialect = Literal["matterport", "object-detection", "model-garden", "yolo"]
DIALECTS: tuple[Dialect, ...] = get_args(Dialect)
YoloBoxes = Literal["pixels", "shares"]
Channels = Literal["first", "last"]


@dataclass(frozen=True)
class YoloOptions:
    """What the graph of a yolo export does; None where the model has to show it.

    ``confidence``: detections need a higher score. ``iou``: of two boxes of one class that overlap more, the better one
    stays; None for 0.7, and for an end-to-end head, which does that itself. ``boxes``: unit of the head's boxes, pixels
    of the frame or shares of it. ``prototypes``: place of the channels in the prototypes.
    """

    confidence: float = 0.25
    iou: float | None = None
    max_detections: int = 300
    boxes: YoloBoxes | None = None
    prototypes: Channels | None = None
