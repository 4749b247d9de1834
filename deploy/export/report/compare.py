"""Two answers to one image: which instances match, and how far they differ."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as rle

from deploy.export.report.ask import Seen

LARGE_PX = 200  # masks above this area have to be right one by one, smaller ones on average
MATCH_IOU = 0.5  # a detection of the same class that overlaps its counterpart less is another one


@dataclass(frozen=True)
class Comparison:
    """How one answer differs from float32's; arrays are of the m matched instances, best overlap first.

    ``mine``, ``its``: index of the instance in float32's answer and in the other; ``overlaps``: mask IoU, MATCH_IOU..1;
    ``areas_px``: of float32's mask; ``boxes``: greatest difference of a side, normalised; ``scores``: difference.
    ``class_changes``: pairs of the unmatched that would match if it were not for their class.
    """

    instances: int
    other: int
    class_changes: int
    mine: NDArray[np.intp]
    its: NDArray[np.intp]
    overlaps: NDArray[np.float64]
    areas_px: NDArray[np.int64]
    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]


@dataclass(frozen=True)
class Fidelity:
    """Differences from float32 over all instances. IoUs, boxes (normalised) and scores are of the matched ones.

    ``lost`` are instances of float32 without a counterpart, ``extra`` those of the other without one; of these pairs
    ``class_changes`` overlap and differ in class. None: no instance to say it of.
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


def compare(reference: Seen, other: Seen) -> Comparison:
    """Match instances of the same class by mask overlap, best first; ``reference`` is float32's answer."""
    mine, its = reference.instances, other.instances
    overlap = np.zeros((len(mine), len(its)))
    if overlap.size:
        overlap = np.asarray(rle.iou(reference.codes(), other.codes(), [0] * len(its)), np.float64)
    same = np.array([[a.class_id == b.class_id for b in its] for a in mine], bool).reshape(overlap.shape)
    matches = _match(np.where(same, overlap, 0.0))
    left, right = (np.array([match[side] for match in matches], np.intp) for side in (0, 1))
    overlap_of_pairs = overlap[left, right]
    overlap[left, :] = overlap[:, right] = 0.0
    difference = np.abs(reference.rows[left] - other.rows[right])
    return Comparison(
        instances=len(mine),
        other=len(its),
        class_changes=len(_match(overlap)),
        mine=left,
        its=right,
        overlaps=overlap_of_pairs,
        areas_px=np.array([mine[row].area for row in left], np.int64),
        boxes=difference[:, :4].max(axis=1, initial=0.0),
        scores=difference[:, 5],
    )


def _match(overlap: NDArray[np.float64]) -> list[tuple[int, int]]:
    """Return pairs (row, column) with an overlap [n, m] of at least MATCH_IOU, best first, each index once."""
    rest, matches = overlap.copy(), []
    while rest.max(initial=0.0) >= MATCH_IOU:
        row, column = (int(place) for place in np.unravel_index(int(rest.argmax()), rest.shape))
        matches.append((row, column))
        rest[row, :] = rest[:, column] = 0.0
    return matches


def summarise(comparisons: Sequence[Comparison]) -> Fidelity:
    """Sum up over images."""
    overlaps, boxes, scores, areas_px = (
        np.concatenate([np.zeros(0), *(getattr(one, name) for one in comparisons)])
        for name in ("overlaps", "boxes", "scores", "areas_px")
    )
    large = overlaps[areas_px > LARGE_PX]
    return Fidelity(
        instances=sum(one.instances for one in comparisons),
        lost=sum(one.instances for one in comparisons) - len(overlaps),
        extra=sum(one.other for one in comparisons) - len(overlaps),
        class_changes=sum(one.class_changes for one in comparisons),
        iou_mean=float(overlaps.mean()) if len(overlaps) else None,
        iou_mean_large=float(large.mean()) if len(large) else None,
        iou_min_large=float(large.min()) if len(large) else None,
        box_difference=float(boxes.max(initial=0.0)),
        score_difference=float(scores.max(initial=0.0)),
    )


def saturated_share(answers: Sequence[Seen]) -> float | None:
    """Share 0..1 of float32's mask probabilities that the article's recipe saturates; None where there are none."""
    lost, total = np.sum([one.saturating() for one in answers], axis=0) if answers else (0, 0)
    return float(lost / total) if total else None
