"""Matched instances counted by mask IoU and by differences, and the lost ones."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from deploy.export.report.compare import Comparison

Bins = tuple[tuple[str, float], ...]
IOU_BINS: Bins = (("0.5 to 0.9", 0.9), ("0.9 to 0.95", 0.95), ("0.95 to 0.98", 0.98), ("0.98 to 0.99", 0.99))
IOU_BINS += (("0.99 to 0.999", 0.999), ("0.999 to 1", 1.0), ("1, equal", math.inf))  # label, end (exclusive)
GAP_BINS: Bins = (("0, equal", 0.0), ("up to 1e-6", 1e-6), ("up to 1e-4", 1e-4), ("up to 0.001", 1e-3))
GAP_BINS += (("up to 0.01", 1e-2), ("up to 0.1", 0.1), ("above 0.1", math.inf))  # label, end (inclusive)


def histograms(by_kind: Mapping[str, Sequence[Comparison]]) -> dict[str, Any]:
    """Count the matched instances by mask IoU and by differences, and the lost ones."""
    gaps, ends = [label for label, _ in GAP_BINS], [end for _, end in GAP_BINS[:-1]]
    charts: dict[str, Any] = {"iou": {"bins": ["lost", *(label for label, _ in IOU_BINS)]}}
    charts |= {name: {"bins": gaps} for name in ("boxes", "scores")}
    for kind, comparisons in by_kind.items():
        ious = np.concatenate([one.ious for one in comparisons])
        places = np.digitize(ious, [end for _, end in IOU_BINS[:-1]])
        lost = sum(one.reference_count - len(one.ious) for one in comparisons)
        charts["iou"][kind] = [lost, *np.bincount(places, minlength=len(IOU_BINS)).tolist()]
        for name in ("boxes", "scores"):
            differences = np.concatenate([getattr(one, name) for one in comparisons])
            places = np.digitize(differences, ends, right=True)
            charts[name][kind] = np.bincount(places, minlength=len(gaps)).tolist()
    return charts
