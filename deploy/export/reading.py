"""What the tensors of a model mean, if its signature does not say it. Imports no TensorFlow, so --help is fast."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from deploy.export.kinds import Dialect

Fit = Literal["pad", "letterbox", "stretch"]
Scale = Literal["0..255", "0..1", "-1..1", "imagenet"]
ScoreValues = Literal["0..1", "0..100", "logits"]
MaskValues = Literal["0..1", "0..255", "logits"]
MaskOf = Literal["box", "image"]
Boxes = Literal["pixels", "shares"]
Channels = Literal["first", "last"]


@dataclass(frozen=True)
class Reading:
    """What options say of a model, and what :mod:`deploy.export.settle` finds where they do not. None: not known yet.

    ``resize``: how an image comes into a frame of fixed size. ``scale``: the range of the pixels; ``imagenet`` is
    (pixel / 255 - mean) / deviation of ImageNet. ``bgr``: the order of the channels.

    Of Matterport's models: ``detections``, ``masks``: the names of outputs. Of detection models: ``first_class``: the
    id of the first class, 0 or 1; ``mask_of``: what a mask covers. Of YOLOs: ``boxes``: unit of the head's boxes,
    pixels of the frame or shares of it; ``prototypes``: place of their channels; ``confidence``: detections need a
    higher score; ``iou``: of two boxes of one class that overlap more, the better one stays.
    """

    resize: Fit | None = None
    scale: Scale | None = None
    bgr: bool = False
    detections: str | None = None
    masks: str | None = None
    first_class: int | None = None
    score_values: ScoreValues | None = None
    mask_values: MaskValues | None = None
    mask_of: MaskOf | None = None
    boxes: Boxes | None = None
    prototypes: Channels | None = None
    confidence: float | None = None
    iou: float | None = None
    max_detections: int | None = None


MATTERPORT: tuple[Dialect, ...] = ("matterport",)
DETECTION: tuple[Dialect, ...] = ("object-detection", "model-garden")
YOLO: tuple[Dialect, ...] = ("yolo",)
DIALECTS_OF: Mapping[str, tuple[Dialect, ...]] = {  # the fields that not every dialect has
    "resize": DETECTION + YOLO,
    "mask_values": MATTERPORT + DETECTION,
    **dict.fromkeys(("detections", "masks"), MATTERPORT),
    **dict.fromkeys(("first_class", "score_values", "mask_of"), DETECTION),
    **dict.fromkeys(("boxes", "prototypes", "confidence", "iou", "max_detections"), YOLO),
}


def listed(names: Iterable[str]) -> str:
    """Return options as the command line writes them, such as --min-dim, --max-dim."""
    return ", ".join(f"--{name.replace('_', '-')}" for name in names)
