"""Two segmentations of one image: which instances match, and how far they differ."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as rle

from deploy.export.report.segment import Segmentation

LARGE_PX = 200  # masks above this area have to be right one by one, smaller ones on average
MATCH_IOU = 0.5  # below this mask IoU, two instances of one class are not the same


@dataclass(frozen=True)
class Comparison:
    """How an export's segmentation differs from float32's. Arrays are of the m matched pairs, best IoU first.

    ``reference_index``, ``other_index``: each pair's instances; ``ious``: mask IoU, MATCH_IOU..1; ``areas_px``: of
    float32's mask; ``boxes``: greatest difference of a side, normalised; ``scores``: difference. ``class_changes``
    counts unmatched pairs that overlap enough and differ in class.
    """

    reference_count: int
    other_count: int
    class_changes: int
    reference_index: NDArray[np.intp]
    other_index: NDArray[np.intp]
    ious: NDArray[np.float64]
    areas_px: NDArray[np.int64]
    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]


@dataclass(frozen=True)
class Fidelity:
    """Differences from float32 over all images. IoUs, boxes (normalised) and scores are of the matched instances.

    ``lost`` counts instances of float32 without a match, ``extra`` those of the export. ``class_changes`` of them are
    pairs that overlap and differ in class. None: there is no instance to measure.
    """

    instances: int
    lost: int
    extra: int
    class_changes: int
    iou_mean: float | None
    iou_mean_large: float | None
    iou_min_large: float | None
    box_difference: float
    score_difference: float


def compare(reference: Segmentation, other: Segmentation) -> Comparison:
    """Match instances of the same class by mask IoU, best first; ``reference`` is float32's segmentation."""
    before, after = reference.instances, other.instances
    iou = np.zeros((len(before), len(after)))
    if iou.size:
        iou = np.asarray(rle.iou(reference.rles(), other.rles(), [0] * len(after)), np.float64)
    same_class = np.array([[a.class_id == b.class_id for b in after] for a in before], bool).reshape(iou.shape)
    pairs = _match(np.where(same_class, iou, 0.0))
    left, right = (np.array([pair[side] for pair in pairs], np.intp) for side in (0, 1))
    ious = iou[left, right]
    iou[left, :] = iou[:, right] = 0.0
    difference = np.abs(reference.rows[left] - other.rows[right])
    return Comparison(
        reference_count=len(before),
        other_count=len(after),
        class_changes=len(_match(iou)),
        reference_index=left,
        other_index=right,
        ious=ious,
        areas_px=np.array([before[row].area for row in left], np.int64),
        boxes=difference[:, :4].max(axis=1, initial=0.0),
        scores=difference[:, 5],
    )


def _match(iou: NDArray[np.float64]) -> list[tuple[int, int]]:
    """Return pairs (row, column) with an IoU [n, m] of at least MATCH_IOU, best first, each index once."""
    rest, pairs = iou.copy(), []
    while rest.max(initial=0.0) >= MATCH_IOU:
        row, column = (int(place) for place in np.unravel_index(int(rest.argmax()), rest.shape))
        pairs.append((row, column))
        rest[row, :] = rest[:, column] = 0.0
    return pairs


def summarise(comparisons: Sequence[Comparison]) -> Fidelity:
    """Sum up over images."""
    ious, boxes, scores, areas_px = (
        np.concatenate([np.zeros(0), *(getattr(one, name) for one in comparisons)])
        for name in ("ious", "boxes", "scores", "areas_px")
    )
    large = ious[areas_px > LARGE_PX]
    instances = sum(one.reference_count for one in comparisons)
    return Fidelity(
        instances=instances,
        lost=instances - len(ious),
        extra=sum(one.other_count for one in comparisons) - len(ious),
        class_changes=sum(one.class_changes for one in comparisons),
        iou_mean=float(ious.mean()) if len(ious) else None,
        iou_mean_large=float(large.mean()) if len(large) else None,
        iou_min_large=float(large.min()) if len(large) else None,
        box_difference=float(boxes.max(initial=0.0)),
        score_difference=float(scores.max(initial=0.0)),
    )


def saturated_share(segmentations: Sequence[Segmentation]) -> float | None:
    """Return the share 0..1 of float32's mask probabilities that the recipe saturates; None without masks."""
    counts = [one.count_saturated() for one in segmentations]
    saturated, total = np.sum(counts, axis=0) if counts else (0, 0)
    return float(saturated / total) if total else None
