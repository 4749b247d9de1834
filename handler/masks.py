"""A float mask and its box into a binary mask over the image, and that into the encodings that clients ask for.

The mask is sampled bilinearly over its box, half-pixel centres, edge repeated, and cut at a threshold. Only the crop is
ever computed, whatever the size of the image.
"""

import base64
import io
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from msgspec import UNSET
from PIL import Image

from handler import rle, shapes
from handler.options import Encoding

Size = tuple[int, int]
Box = tuple[int, int, int, int]
STRIP_PIXELS = 1 << 20  # sampled at a time: a box can be as large as the photograph, and floats take four bytes
TIE = 1e-6  # a probability that rounding leaves so far below the threshold is at it: plateaus would get holes
POINT_DIGITS = 2  # of a pixel, in outlines
OUTLINE_SAMPLES = 1024  # on a side at most, so that an outline costs no more memory than the model's frame


@dataclass(frozen=True, slots=True)
class InstanceMask:
    """One object's mask: probabilities float32 [mh, mw] over ``box``, cut at ``threshold``; ``bits`` over ``clipped``.

    Boxes are y1, x1, y2, x2 in image pixels, y2 and x2 exclusive; ``clipped`` is the part within the image, ``bits``
    bool of its size, True where the probability is at least the threshold.
    """

    probabilities: npt.NDArray[np.float32]
    box: Box
    clipped: Box
    threshold: float
    bits: npt.NDArray[np.bool_]

    @property
    def area(self) -> int:
        """Number of pixels set."""
        return int(np.count_nonzero(self.bits))


@dataclass(frozen=True, slots=True)
class Outline:
    """The ring around the largest part, x, y, x, y, ..., empty where the mask is; ``pixels`` as JSON if asked for."""

    points: list[float]
    pixels: bytes = b""


Encoded = shapes.Mask | Outline


def unmold_mask(probabilities: npt.NDArray[np.float32], box: Box, clipped: Box, threshold: float) -> InstanceMask:
    """Return the mask of an object from its probabilities float32 [mh, mw] over ``box``."""
    height, width = clipped[2] - clipped[0], clipped[3] - clipped[1]
    rows, columns = _sampling(probabilities.shape, box, clipped, (height, width))
    across = probabilities @ columns.T
    bits = np.empty((height, width), np.bool_)
    step = max(1, STRIP_PIXELS // width)
    for top in range(0, height, step):
        np.greater_equal(rows[top : top + step] @ across, threshold - TIE, out=bits[top : top + step])
    return InstanceMask(probabilities, box, clipped, threshold, bits)


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


def encode_mask(mask: InstanceMask, encoding: Encoding, image_hw: Size) -> Encoded | None:
    """Return the mask in an encoding, None for ``none``."""
    encoded: Encoded | None = None
    match encoding:
        case "rle":
            encoded = shapes.RleMask(size=image_hw, counts=rle.encode(mask.bits, mask.clipped, image_hw))
        case "polygon":
            encoded = _polygons(encode_polygons(mask))
        case "segmentation":
            rings = encode_polygons(mask)
            encoded = _polygons(rings) if not _holed(rings) else encode_mask(mask, "rle", image_hw)
        case "png":
            encoded = shapes.PngMask(data=encode_png(mask))
        case "float32":
            height, width = mask.probabilities.shape
            cut = _box_shape(mask.box) if mask.box != mask.clipped else UNSET
            encoded = shapes.Float32Mask(size=(height, width), data=encode_float32(mask), box=cut)
        case "outline":
            encoded = Outline(_largest(encode_polygons(mask)))
        case "pixels":
            encoded = Outline(_largest(encode_polygons(mask)), encode_pixels(mask))
    return encoded


def _box_shape(box: Box) -> shapes.Box:
    y1, x1, y2, x2 = box
    return shapes.Box(x=x1, y=y1, width=x2 - x1, height=y2 - y1)


def encode_polygons(mask: InstanceMask) -> list[npt.NDArray[np.float64]]:
    """Return the outline as rings [n, 2] of x, y in image pixels; see :func:`handler.polygons.trace`."""
    from handler.polygons import trace  # noqa: PLC0415 - contourpy costs each start time that few requests need

    size = mask.clipped[2] - mask.clipped[0], mask.clipped[3] - mask.clipped[1]
    count = min(size[0], OUTLINE_SAMPLES), min(size[1], OUTLINE_SAMPLES)
    rows, columns = _sampling(mask.probabilities.shape, mask.box, mask.clipped, count)
    return trace(rows @ mask.probabilities @ columns.T - (mask.threshold - TIE), mask.clipped)


def _flat(ring: npt.NDArray[np.float64]) -> list[float]:
    flat: list[float] = np.round(ring, POINT_DIGITS).ravel().tolist()
    return flat


def _polygons(rings: list[npt.NDArray[np.float64]]) -> shapes.PolygonMask:
    return shapes.PolygonMask(polygons=[_flat(ring) for ring in rings])


def _holed(rings: list[npt.NDArray[np.float64]]) -> bool:
    from handler.polygons import area  # noqa: PLC0415 - as above

    return any(area(ring) < 0 for ring in rings)


def _largest(rings: list[npt.NDArray[np.float64]]) -> list[float]:
    from handler.polygons import area  # noqa: PLC0415 - as above

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
