"""How a model's tensors are meant, where its signature does not say."""

from dataclasses import dataclass
from typing import Literal

Scale = Literal["0..255", "0..1", "-1..1", "imagenet"]
Fit = Literal["pad", "stretch"]
ScoreValues = Literal["0..1", "0..100", "logits"]
MaskValues = Literal["0..1", "0..255", "logits"]
MaskOf = Literal["box", "image"]


@dataclass(frozen=True)
class Reading:
    """What options say of a model, and what :mod:`deploy.export.trial` finds where they do not. None: not known yet.

    ``detections``, ``masks``: the names of a Matterport model's outputs. ``resize``: how an image comes into a frame of
    fixed size. ``scale``: the range of the pixels; ``imagenet`` is (pixel / 255 - mean) / deviation of ImageNet.
    ``bgr``: the order of the channels. ``first_class``: the id of the first class, 0 or 1. ``mask_of``: what a mask
    covers.
    """

    detections: str | None = None
    masks: str | None = None
    resize: Fit | None = None
    scale: Scale | None = None
    bgr: bool = False
    first_class: int | None = None
    score_values: ScoreValues | None = None
    mask_values: MaskValues | None = None
    mask_of: MaskOf | None = None
