"""What each saw, drawn on the photograph, and where it differs from float32, as data: URLs."""

import base64
import io
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from pycocotools import mask as rle

from deploy.export.report.ask import Seen
from deploy.export.report.compare import Comparison
from deploy.tools import overlay

DRAWN_PX = 1400  # longer side at which answers are drawn, so that labels can still be read on the page
MARK_PX = 5  # least width of a mark on a difference map
GONE, COME = (255, 132, 0), (0, 200, 255)  # of a difference map: pixels that only float32 has, or only the export


def changes_of(
    reference: Seen, other: Seen, pairs: Comparison, photo: Image.Image
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return bool [h, w] twice: pixels that lose an instance they had in float32, and pixels that gain one."""
    gone, come = (np.zeros((photo.height, photo.width), bool) for _ in range(2))
    mine, its = reference.codes(), other.codes()
    for a, b in zip(pairs.mine, pairs.its, strict=True):
        before, after = rle.decode(mine[a]), rle.decode(its[b])
        gone |= before > after
        come |= after > before
    for a in set(range(len(mine))) - set(pairs.mine.tolist()):
        gone |= rle.decode(mine[a]).astype(bool)
    for b in set(range(len(its))) - set(pairs.its.tolist()):
        come |= rle.decode(its[b]).astype(bool)
    return gone, come


def draw_all(
    photo: Image.Image,
    reference: Seen,
    others: Mapping[str, Seen],
    comparisons: Mapping[str, Comparison],
    *,
    changes: Mapping[str, tuple[NDArray[np.bool_], NDArray[np.bool_]]],
    side: int,
) -> dict[str, str]:
    """Draw what each saw, an instance that all of them have in one colour, and where it differs from float32."""
    small = photo.copy()
    small.thumbnail((DRAWN_PX, DRAWN_PX), Image.Resampling.LANCZOS)
    factor = small.width / photo.width, small.height / photo.height
    counterparts = {kind: dict(zip(one.mine, one.its, strict=True)) for kind, one in comparisons.items()}
    common = [row for row in range(len(reference.instances)) if all(row in pairs for pairs in counterparts.values())]
    pictures = {"float32": _overlay(small, reference, common, factor, side)}
    for kind, other in others.items():
        pictures[kind] = _overlay(small, other, [int(counterparts[kind][row]) for row in common], factor, side)
        pictures[f"{kind} difference"] = _difference(small, *changes[kind], side)
    return pictures


def _overlay(photo: Image.Image, seen: Seen, first: Sequence[int], factor: tuple[float, float], side: int) -> str:
    """Draw an answer on the photo, which is the image times ``factor`` (x, y), with the instances ``first`` first."""
    order = [*first, *sorted(set(range(len(seen.instances))) - set(first))]
    codes, drawn = seen.codes(), []
    for one in (seen.instances[row] for row in order):
        y1, x1, y2, x2 = (round(edge * factor[1 - place % 2]) for place, edge in enumerate(one.box))
        box = {"x": x1, "y": y1, "width": max(1, x2 - x1), "height": max(1, y2 - y1)}
        drawn.append({"class_id": one.class_id, "label": one.label, "score": one.score, "box": box})
    for row, shape in zip(order, drawn, strict=True):
        shape["mask"] = codes[row]
    return _data_url(_fit(overlay.draw(photo, drawn), side), quality=80)


def _difference(photo: Image.Image, gone: NDArray[np.bool_], come: NDArray[np.bool_], side: int) -> str:
    """Mark the changed pixels bool [h, w] on a dim photo: widened, so that a single one can be seen."""
    zoom = 2 if max(photo.size) <= overlay.SMALL_PX else 1
    canvas = _fit(photo.resize((zoom * photo.width, zoom * photo.height)), side).convert("L")
    canvas = canvas.point(lambda level: 20 + level * 0.35).convert("RGB")
    for bits, colour in ((gone, GONE), (come, COME)):
        share = Image.fromarray(bits * np.uint8(255)).resize(canvas.size, Image.Resampling.BOX)
        marks = share.point(lambda level: 255 if level else 0).filter(ImageFilter.MaxFilter(MARK_PX))
        canvas.paste(colour, (0, 0), marks)
    return _data_url(canvas, quality=88)


def _fit(image: Image.Image, side: int) -> Image.Image:
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    return image


def _data_url(image: Image.Image, quality: int) -> str:
    body = io.BytesIO()
    image.save(body, "WEBP", quality=quality, method=4)
    return f"data:image/webp;base64,{base64.b64encode(body.getvalue()).decode('ascii')}"
