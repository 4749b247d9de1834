"""``format=coco``: the list that ``pycocotools.coco.COCO.loadRes`` takes."""

from collections.abc import Sequence
from typing import Annotated

from msgspec import UNSET, Meta, UnsetType

from handler.masks.encodings import Encoder, Masks, encode_none, encode_rle, flat, has_holes, outline
from handler.masks.schemas import Ring, Side, Value
from handler.options import MaskEncoding, Options
from handler.pipeline import Result
from handler.web.formats import score, xywh
from handler.web.schemas import Pixels, Score


class CocoRle(Value, frozen=True):
    """A mask as pycocotools takes it."""

    size: tuple[Side, Side]
    counts: str


class CocoResult(Value, frozen=True):
    """One entry of ``format=coco``; ``bbox`` is x, y, width, height."""

    image_id: Pixels
    category_id: Annotated[int, Meta(ge=1)]
    bbox: tuple[int, int, int, int]
    score: Score
    segmentation: CocoRle | list[Ring] | UnsetType = UNSET


ANSWER = list[CocoResult]


def encoder(mask: MaskEncoding) -> Encoder:
    """Return RLE, or polygons if they are asked for."""
    encoders: dict[MaskEncoding, Encoder] = {"none": encode_none, "polygon": _polygons_or_rle}
    return encoders.get(mask, _rle)


def _rle(masks: Masks) -> list[CocoRle]:
    return [CocoRle(mask.size, mask.counts) for mask in encode_rle(masks)]


def _polygons_or_rle(masks: Masks) -> Sequence[list[list[float]] | CocoRle]:
    """Return polygons, RLE for a mask with holes: COCO's polygons have none."""
    outlines = [outline(mask) for mask in masks]
    return [
        rle if has_holes(rings) else [flat(ring) for ring in rings]
        for rings, rle in zip(outlines, _rle(masks), strict=True)
    ]


def answer(result: Result, options: Options, model: str) -> list[CocoResult]:  # noqa: ARG001 - the format names none
    """Return an entry for each instance, but for one whose outline is empty: pycocotools fails on it."""
    return [
        CocoResult(options.image_id, one.class_id, xywh(one), score(one), UNSET if one.mask is None else one.mask)
        for one in result.instances
        if one.mask != []
    ]
