"""Answers over HTTP as the instances that they were made of."""

import msgspec

from handler.masks.schemas import RleMask
from handler.pipeline import Instance


def instances(answer):
    """Yield the instances of a plain answer with masks in run-length encoding."""
    for one in answer["instances"]:
        x, y, width, height = (one["box"][side] for side in ("x", "y", "width", "height"))
        box = (y, x, y + height, x + width)
        mask = msgspec.convert(one["mask"], RleMask)
        yield Instance(one["class_id"], one["label"], one["score"], box, one["area"], mask)
