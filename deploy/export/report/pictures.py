"""Each segmentation drawn on the photograph, and where it differs from float32's, as data: URLs."""

import base64
import io
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from pycocotools import mask as rle

from deploy.export.report.compare import Comparison
from deploy.export.report.segment import Segmentation
from deploy.tools import overlay

DRAWN_PX = 1400  # longer side of a drawing: labels can still be read on the page
MARK_PX = 5  # least width of a mark on a difference map
LOST, GAINED = (255, 132, 0), (0, 200, 255)  # of a difference map: pixels that only float32 has, or only the export
Bits = NDArray[np.bool_]


def changed_pixels(
    reference: Segmentation, other: Segmentation, comparison: Comparison, photo: Image.Image
) -> tuple[Bits, Bits]:
    """Return bool [h, w] twice: pixels that lose an instance they have in float32, and pixels that gain one."""
    lost, gained = (np.zeros((photo.height, photo.width), bool) for _ in range(2))
    before, after = reference.rles(), other.rles()
    for a, b in zip(comparison.reference_index, comparison.other_index, strict=True):
        mask_before, mask_after = rle.decode(before[a]), rle.decode(after[b])
        lost |= mask_before > mask_after
        gained |= mask_after > mask_before
    for a in set(range(len(before))) - set(comparison.reference_index.tolist()):
        lost |= rle.decode(before[a]).astype(bool)
    for b in set(range(len(after))) - set(comparison.other_index.tolist()):
        gained |= rle.decode(after[b]).astype(bool)
    return lost, gained


def draw_all(
    photo: Image.Image,
    reference: Segmentation,
    others: Mapping[str, Segmentation],
    comparisons: Mapping[str, Comparison],
    *,
    changes: Mapping[str, tuple[Bits, Bits]],
    side: int,
) -> dict[str, str]:
    """Draw every segmentation, and where it differs from float32; an instance that all have keeps its colour."""
    small = photo.copy()
    small.thumbnail((DRAWN_PX, DRAWN_PX), Image.Resampling.LANCZOS)
    factor = small.width / photo.width, small.height / photo.height
    matches = {kind: dict(zip(one.reference_index, one.other_index, strict=True)) for kind, one in comparisons.items()}
    common = [row for row in range(len(reference.instances)) if all(row in pairs for pairs in matches.values())]
    pictures = {"float32": _overlay(small, reference, common, factor, side)}
    for kind, other in others.items():
        pictures[kind] = _overlay(small, other, [int(matches[kind][row]) for row in common], factor, side)
        pictures[f"{kind} difference"] = _difference(small, *changes[kind], side)
    return pictures


def _overlay(
    photo: Image.Image, segmentation: Segmentation, first: Sequence[int], factor: tuple[float, float], side: int
) -> str:
    """Draw on the photo, which is the image times ``factor`` (x, y), with the instances ``first`` first."""
    order = [*first, *sorted(set(range(len(segmentation.instances))) - set(first))]
    rles, drawn = segmentation.rles(), []
    for row in order:
        one = segmentation.instances[row]
        y1, x1, y2, x2 = (round(edge * factor[1 - place % 2]) for place, edge in enumerate(one.box))
        box = {"x": x1, "y": y1, "width": max(1, x2 - x1), "height": max(1, y2 - y1)}
        drawn.append({"class_id": one.class_id, "label": one.label, "score": one.score, "box": box, "mask": rles[row]})
    return _data_url(_fit(overlay.draw(photo, drawn), side), quality=80)


def _difference(photo: Image.Image, lost: Bits, gained: Bits, side: int) -> str:
    """Mark the changed pixels bool [h, w] on a dim photo, widened: a single one can be seen."""
    zoom = 2 if max(photo.size) <= overlay.SMALL_PX else 1
    canvas = _fit(photo.resize((zoom * photo.width, zoom * photo.height)), side).convert("L")
    canvas = canvas.point(lambda level: 20 + level * 0.35).convert("RGB")
    for bits, colour in ((lost, LOST), (gained, GAINED)):
        coverage = Image.fromarray(bits * np.uint8(255)).resize(canvas.size, Image.Resampling.BOX)
        marks = coverage.point(lambda level: 255 if level else 0).filter(ImageFilter.MaxFilter(MARK_PX))
        canvas.paste(colour, (0, 0), marks)
    return _data_url(canvas, quality=88)


def _fit(image: Image.Image, side: int) -> Image.Image:
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    return image


def _data_url(image: Image.Image, quality: int) -> str:
    body = io.BytesIO()
    image.save(body, "WEBP", quality=quality, method=4)
    return f"data:image/webp;base64,{base64.b64encode(body.getvalue()).decode('ascii')}"
