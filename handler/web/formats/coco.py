"""``format=coco``: the list that ``pycocotools.coco.COCO.loadRes`` takes."""

from collections.abc import Sequence
from typing import Annotated

from msgspec import UNSET, Meta, UnsetType

from handler.masks.encodings import Encoder, Masks, encode_none, encode_rle, flatten, has_holes, outline
from handler.masks.schemas import CocoRle, Ring, Value
from handler.options import MaskEncoding, Options
from handler.pipeline import Result
from handler.web.formats import score, xywh
from handler.web.schemas import Pixels, Score


class CocoResult(Value, frozen=True):
    """One entry of ``format=coco``; ``bbox`` is x, y, width, height, ``area`` the pixels of the mask."""

    image_id: Pixels
    category_id: Annotated[int, Meta(ge=1)]
    bbox: tuple[int, int, int, int]
    score: Score
    area: Pixels
    segmentation: CocoRle | list[Ring] | UnsetType = UNSET


ANSWER = list[CocoResult]


def encoder(mask: MaskEncoding) -> Encoder:
    """Return the encoder: RLE, or polygons for the option value polygon."""
    encoders: dict[MaskEncoding, Encoder] = {"none": encode_none, "polygon": _polygons_or_rle}
    return encoders.get(mask, _rle)


def _rle(masks: Masks) -> list[CocoRle]:
    return [CocoRle(mask.size, mask.counts) for mask in encode_rle(masks)]


def _polygons_or_rle(masks: Masks) -> Sequence[list[list[float]] | CocoRle]:
    """Return polygons, but RLE for a mask with holes: COCO's polygons cannot have holes."""
    outlines = [outline(mask) for mask in masks]
    return [
        rle if has_holes(rings) else [flatten(ring) for ring in rings]
        for rings, rle in zip(outlines, _rle(masks), strict=True)
    ]


def answer(result: Result, options: Options, model: str) -> list[CocoResult]:  # noqa: ARG001 - the format has no model
    """Return an entry per instance, but none if its outline is empty: pycocotools fails on that."""
    return [
        CocoResult(
            options.image_id,
            found.class_id,
            xywh(found),
            score(found),
            found.area,
            UNSET if found.mask is None else found.mask,
        )
        for found in result.instances
        if found.mask != []
    ]
