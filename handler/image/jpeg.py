"""What is special about JPEG: how often it passes over the picture, and that it can be decoded at a part of its size.

The model sees a photograph at its own size, sampled without anti-aliasing. To decode it at a half or a quarter spares
much of the arithmetic and most of the memory, but leaves out what is finer than a pixel of the reduced picture, some of
which samples of the whole one would have caught. How much that is can be foretold: from the detail that is left at the
finest scale, and from the bytes that the encoder spent. A photograph with too much of it is decoded whole.
"""

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from handler.errors import BadRequest
from handler.types import Size

START = b"\xff\xd8"  # how a JPEG begins
MARKER = re.compile(rb"\xff+([^\x00\x01\xd0-\xd8\xff])", re.DOTALL)  # of a segment with a length, or of the end
MARK, SCAN, END = 0xFF, 0xDA, 0xD9
MAX_SCANS = 100  # of a JPEG: each one costs a pass over the whole picture; encoders write about ten
SCANNED_SHARE = 20  # ... and all passes together at most so many times the pixels that are allowed
MAX_PARTS = 100_000  # markers that may stand in a file
FACTORS = (4, 2)  # by which libjpeg divides the sides while it decodes; an eighth is not measured below
FAITHFUL = 1.5  # mean absolute difference, grey levels, that the smaller decode may make in what the model sees
COST = {2: 0.87, 4: 1.63}  # grey levels for a foretold 1, the most that was measured
SHARP = 1.15  # ... and so much more for samples at pixel centres than for those anywhere
HOPELESS = {2: 4.2, 4: 2.3}  # ``coded`` above which, in the same measurement, most would be tried for nothing
STRIPS = 32  # looked at for detail, REACH rows each
REACH = 5  # pixels, of the fourth difference
SAMPLES = 1000  # looked at for how sharp they are


def check_scans(data: bytes, size_hw: Size, max_pixels: int) -> None:
    """Raise BadRequest for a JPEG with more scans, or parts between them, than pictures have.

    To count the bytes that mark them is fast and finds too many, those inside other parts among them; only where there
    are too many is the file read part by part.
    """
    height, width = size_hw
    most = min(MAX_SCANS, SCANNED_SHARE * max_pixels // (width * height))
    each = np.frombuffer(data, np.uint8)
    marks = each[np.flatnonzero(each[:-1] == MARK) + 1]
    many = np.count_nonzero(marks == SCAN) > most or np.count_nonzero(marks) > MAX_PARTS
    if many and _has_more_scans(data, most):
        raise BadRequest(f"a JPEG of {width} x {height} must have at most {most} scans, got more")


def _has_more_scans(data: bytes, most: int) -> bool:
    """Tell whether a JPEG has more scans, or parts between them, than allowed; what follows its end does not count."""
    at = scans = parts = 0
    while (found := MARKER.search(data, at)) and found[1][0] != END:
        scans += found[1][0] == SCAN
        parts += 1
        if scans > most or parts > MAX_PARTS:
            return True
        at = found.end() + int.from_bytes(data[found.end() : found.end() + 2])
    return False


@dataclass(frozen=True, slots=True)
class Reduction:
    """Decoding at 1 / ``factor``, for samples every ``steps`` pixels (down, across) of the whole picture.

    ``coded``: bits a pixel times the root of the mean quantization step, grey levels; what the encoder kept of detail.

    The difference to expect is ``COST * fine ** 0.7 * coded ** 0.5``, where ``fine`` is the mean absolute fourth
    difference of the reduced picture, detail at its finest scale. Fitted to 462 JPEGs of 77 photographs, pages,
    textures and drawings, qualities 40 to 96, with and without noise, each sampled every 2.2, 3 and 3.94 pixels (twice
    that for a quarter): ``fine`` alone goes with the true difference (correlation of logarithms 0.98); COST is the
    largest quotient.
    """

    factor: int
    steps: tuple[float, float]
    coded: float

    def foretell(self, reduced: Image.Image) -> float:
        """Return the mean absolute difference to expect in grey levels, from the RGB image decoded so."""
        sharpness = sum(map(_sharpness, self.steps)) / 2
        sharper = 1 + SHARP * max(0.0, sharpness - 0.5)
        return float(COST[self.factor] * sharper * _fine(reduced) ** 0.7 * self.coded**0.5)

    def is_faithful(self, reduced: Image.Image) -> bool:
        """Tell whether the model will see the same as of the whole picture, within FAITHFUL grey levels."""
        return self.foretell(reduced) <= FAITHFUL


def plan(image: Any, needed_hw: Size, data: bytes) -> Reduction | None:
    """Return how a JPEG that Pillow has opened may be decoded for use at ``needed_hw``, None for as it is."""
    steps = image.height / needed_hw[0], image.width / needed_hw[1]
    quantization = image.quantization.get(0)  # of brightness
    if not quantization:
        return None
    bits = 8 * _scan_bytes(data) / (image.width * image.height)  # a pixel
    coded = bits * float(np.mean(quantization)) ** 0.5
    for factor in FACTORS:
        fits = min(steps) >= factor and min(image.height, image.width) >= REACH * factor
        if fits and coded <= HOPELESS[factor]:
            return Reduction(factor, steps, coded)
    return None


def _scan_bytes(data: bytes) -> int:
    """Return the bytes of the first picture's scans: phones put a small one before them, and others and films after."""
    at = len(START)
    while (found := MARKER.search(data, at)) and found[1][0] not in (SCAN, END):
        at = found.end() + int.from_bytes(data[found.end() : found.end() + 2])
    end = data.find(bytes([MARK, END]), at)
    return (end if end >= 0 else len(data)) - at


def _fine(image: Image.Image) -> float:
    """Return the mean absolute fourth difference, 1 -4 6 -4 1 over 16, down and across, in strips of an RGB image."""
    tops = np.linspace(0, image.height - REACH, STRIPS).astype(int).tolist()
    strips = [np.asarray(image.crop((0, top, image.width, top + REACH))) for top in tops]
    pixels = np.stack(strips).astype(np.int16)
    down = _fourth(np.moveaxis(pixels, 1, 0))
    across = _fourth(np.moveaxis(pixels[:, REACH // 2], 1, 0))
    return float(down + across) / 2


def _fourth(x: npt.NDArray[np.int16]) -> float:
    return float(np.abs(x[:-4] + x[4:] - 4 * (x[1:-3] + x[3:-1]) + 6 * x[2:-2]).mean()) / 16


def _sharpness(step: float) -> float:
    """Return how far samples every ``step`` pixels lie from the middle between two pixels: 0, or at their centres 1."""
    at = (np.arange(SAMPLES) + 0.5) * step - 0.5
    return float(np.abs(1 - 2 * (at - np.floor(at))).mean())
