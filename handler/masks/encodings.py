"""Float masks and their boxes into pixels of the image, and those into the encodings that clients ask for.

:mod:`handler.masks.spans` says which pixels they are. At most the crop of one mask is made, whatever the image's size.
"""

import base64
import io
from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt
from msgspec import UNSET
from PIL import Image

from handler.masks import rle
from handler.masks.spans import TIE, Boxes, Spans, fill, find_spans
from handler.options import Encoding
from handler.web import schemas

Size = tuple[int, int]
Box = tuple[int, int, int, int]
POINT_DIGITS = 2  # of a pixel, in outlines
OUTLINE_SAMPLES = 1024  # on a side at most, so that an outline costs no more memory than the model's frame


@dataclass(frozen=True, slots=True)
class Masks:
    """The masks of n objects: probabilities float32 [n, mh, mw] over ``boxes``, cut at ``threshold``; their ``spans``.

    Boxes int64 [n, 4] are y1, x1, y2, x2 in image pixels, y2, x2 exclusive; ``clipped`` is the part within the image.
    """

    probabilities: npt.NDArray[np.float32]
    boxes: Boxes
    clipped: Boxes
    threshold: float
    spans: Spans

    def one(self, index: int) -> "InstanceMask":
        """Return a single mask."""
        box, clipped = (tuple(map(int, boxes[index])) for boxes in (self.boxes, self.clipped))
        bits = fill(self.spans.of(index), cast(Box, clipped), self.spans.image_hw[0])
        return InstanceMask(self.probabilities[index], cast(Box, box), cast(Box, clipped), self.threshold, bits)


@dataclass(frozen=True, slots=True)
class InstanceMask:
    """One object's mask: probabilities float32 [mh, mw] over ``box``; ``bits`` bool over ``clipped``, True inside."""

    probabilities: npt.NDArray[np.float32]
    box: Box
    clipped: Box
    threshold: float
    bits: npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Outline:
    """The ring around the largest part, x, y, x, y, ..., empty where the mask is; ``pixels`` as JSON if asked for."""

    points: list[float]
    pixels: bytes = b""


Encoded = schemas.Mask | Outline


def unmold_masks(
    probabilities: npt.NDArray[np.float32], boxes: Boxes, clipped: Boxes, image_hw: Size, threshold: float
) -> Masks:
    """Return the masks of objects from their probabilities float32 [n, mh, mw] over ``boxes``."""
    spans = find_spans(probabilities, boxes, clipped, image_hw, threshold)
    return Masks(probabilities, boxes, clipped, threshold, spans)


def encode_masks(masks: Masks, encoding: Encoding) -> list[Encoded | None]:
    """Return each mask in an encoding, None for ``none``."""
    image_hw, count = masks.spans.image_hw, len(masks.boxes)
    if encoding == "none":
        return [None] * count
    if encoding == "rle":
        return [schemas.RleMask(size=image_hw, counts=counts) for counts in rle.encode(masks.spans)]
    counts = rle.encode(masks.spans) if encoding == "segmentation" else [""] * count
    return [_encode(masks.one(index), encoding, image_hw, counts[index]) for index in range(count)]


def _encode(mask: InstanceMask, encoding: Encoding, image_hw: Size, counts: str) -> Encoded:
    """Return one mask in an encoding that is made for each by itself; ``counts`` is its RLE, for ``segmentation``."""
    if encoding == "png":
        return schemas.PngMask(data=encode_png(mask))
    if encoding == "float32":
        height, width = mask.probabilities.shape
        cut = _box_shape(mask.box) if mask.box != mask.clipped else UNSET
        return schemas.Float32Mask(size=(height, width), data=encode_float32(mask), box=cut)
    rings = encode_polygons(mask)
    if encoding == "segmentation" and _holed(rings):
        return schemas.RleMask(size=image_hw, counts=counts)
    if encoding in ("polygon", "segmentation"):
        return schemas.PolygonMask(polygons=[_flat(ring) for ring in rings])
    return Outline(_largest(rings), encode_pixels(mask) if encoding == "pixels" else b"")


def _sampling(shape: Size, box: Box, part: Box, count: Size) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return weights [count[0], mh] and [count[1], mw] that sample ``part`` of a mask of ``shape`` over ``box``."""
    return (
        _weights(shape[0], (box[0], box[2]), (part[0], part[2]), count[0]),
        _weights(shape[1], (box[1], box[3]), (part[1], part[3]), count[1]),
    )


def _weights(samples: int, span: tuple[int, int], part: tuple[int, int], count: int) -> npt.NDArray[np.float32]:
    """Return float32 [count, samples]: the weights of the samples over ``span`` at the centres of cells of ``part``."""
    centres = part[0] + (np.arange(count) + 0.5) * ((part[1] - part[0]) / count)
    at = np.clip((centres - span[0]) * (samples / (span[1] - span[0])) - 0.5, 0, samples - 1)
    low = np.minimum(at.astype(np.intp), max(samples - 2, 0))
    share = (at - low).astype(np.float32)
    weights = np.zeros((count, samples), np.float32)
    cells = np.arange(count)
    weights[cells, low] = 1 - share
    weights[cells, np.minimum(low + 1, samples - 1)] += share
    return weights


def _box_shape(box: Box) -> schemas.Box:
    y1, x1, y2, x2 = box
    return schemas.Box(x=x1, y=y1, width=x2 - x1, height=y2 - y1)


def encode_polygons(mask: InstanceMask) -> list[npt.NDArray[np.float64]]:
    """Return the outline as rings [n, 2] of x, y in image pixels; see :func:`handler.masks.polygons.trace`."""
    from handler.masks.polygons import trace  # noqa: PLC0415 - contourpy costs each start time that few requests need

    size = mask.clipped[2] - mask.clipped[0], mask.clipped[3] - mask.clipped[1]
    count = min(size[0], OUTLINE_SAMPLES), min(size[1], OUTLINE_SAMPLES)
    rows, columns = _sampling(mask.probabilities.shape, mask.box, mask.clipped, count)
    return trace(rows @ mask.probabilities @ columns.T - (mask.threshold - TIE), mask.clipped)


def _flat(ring: npt.NDArray[np.float64]) -> list[float]:
    flat: list[float] = np.round(ring, POINT_DIGITS).ravel().tolist()
    return flat


def _holed(rings: list[npt.NDArray[np.float64]]) -> bool:
    from handler.masks.polygons import area  # noqa: PLC0415 - as above

    return any(area(ring) < 0 for ring in rings)


def _largest(rings: list[npt.NDArray[np.float64]]) -> list[float]:
    from handler.masks.polygons import area  # noqa: PLC0415 - as above

    return _flat(max(rings, key=area)) if rings else []


def encode_png(mask: InstanceMask) -> str:
    """Return the crop as a grey 8-bit PNG, 0 or 255, in base64."""
    body = io.BytesIO()
    Image.fromarray(mask.bits.view(np.uint8) * np.uint8(255)).save(body, "PNG")
    return base64.b64encode(body.getvalue()).decode("ascii")


def encode_float32(mask: InstanceMask) -> str:
    """Return the probabilities as little-endian float32, row-major, in base64."""
    return base64.b64encode(mask.probabilities.astype("<f4", copy=False).tobytes()).decode("ascii")


def encode_pixels(mask: InstanceMask) -> bytes:
    """Return the crop and its inclusive corners as a JSON list ``[0,1,...,x1,y1,x2,y2]``, row-major.

    As bytes: a Python number for each pixel would take eight times the memory.
    """
    y1, x1, y2, x2 = mask.clipped
    digits = np.full(2 * mask.bits.size, ord(","), np.uint8)
    digits[::2] = mask.bits.ravel().view(np.uint8) + ord("0")
    return b"[" + digits.tobytes() + f"{x1},{y1},{x2 - 1},{y2 - 1}]".encode()
