"""JPEG only: a limit on the number of scans, a missing end marker, and decoding at a reduced size.

*Strategy* for a missing end marker. Cameras and transfers lose the last two bytes, and every pixel is still there. But
libjpeg, given an end marker, also fills missing pixels with grey, without an error that Pillow would report. So:

1. Check that the scans cover every coefficient at full precision, and that the last scan has all its restart markers.
2. Append bytes of one pattern and an end marker, and decode. Do the same with other patterns.
3. If all pictures are equal, no pixel needed the appended bytes. Else the file is truncated.

*Strategy* of scaled decoding. The pipeline resizes a photo to the model's frame by sampling it without anti-aliasing.
libjpeg can decode at 1/2 or 1/4 of the size, which saves much of the time and most of the memory. But the reduced
image lacks the finest detail, and samples of the full image would have hit some of it. So:

1. Choose the largest factor by which the photo is too large. Skip it if the file has too many bytes per pixel.
2. Decode at the reduced size, and predict the error from the detail in the result and from the size of the file.
3. If the predicted error is above MAX_ERROR, decode again at full size.

Example: a photo of 3024 x 4032 for 768 x 1024 is sampled every 3.94 pixels. A quarter (756 x 1008) would be too small,
so the factor is 2: the decoder returns 1512 x 2016, with a quarter of the pixels.
"""

import itertools
import re
import zlib
from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
from PIL import Image

from handler.errors import BadRequest
from handler.image.colours import rows_to_rgb, strips
from handler.types import Size

START = b"\xff\xd8"  # the first bytes of every JPEG
MARKER = re.compile(rb"\xff([^\x00\x01\xd0-\xd8\xff])", re.DOTALL)  # of a segment with a length, or of the end
RESTART = re.compile(rb"\xff[\xd0-\xd7]")
MARK, SCAN, END, RESTART_INTERVAL = 0xFF, 0xDA, 0xD9, 0xDD
BASELINE, EXTENDED = 0xC0, 0xC1
ANY_FRAME = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # those are tables and an extension
FRAMES = (0xC0, 0xC1, 0xC2, 0xC9, 0xCA)  # baseline, extended, progressive; the last two with arithmetic coding
BLOCK = 8  # pixels a side, of 64 coefficients
COEFFICIENT_BYTES = 2
FILLS = (b"\x00", b"\xd5", b"\x2a")  # appended patterns: no markers, and with different first bits
FILL_BYTES = 1 << 10  # many blocks, so that the pictures differ by more than a rounding
MAX_SCANS = 100  # each scan costs a pass over the whole image; encoders write about ten
MAX_SCANNED_IMAGES = 20  # all scans together may cover so many images of the largest size allowed
MAX_PARTS = 100_000  # markers in a file
MAX_COMPONENTS = 4  # of a frame and of a scan
FACTORS = (4, 2)  # libjpeg also offers 8, but the constants below are not measured for it
MAX_ERROR = 1.5  # grey levels: mean absolute difference in the model's input
WORST_RATIO = {2: 0.87, 4: 1.63}  # by factor: largest measured ratio of true error to ``fine ** 0.7 * coded ** 0.5``
CENTRE_PENALTY = 1.15  # samples near pixel centres see more detail: the error grows by this x (nearness - 0.5)
MAX_CODED = {2: 4.2, 4: 2.3}  # by factor: above this, most scaled decodes failed step 3, so do not try
STRIPS = 32  # of REACH rows each, in which detail is measured
REACH = 5  # pixels in a fourth difference
SAMPLES = 1000  # whose distance to pixel centres is averaged


def check_scans(data: bytes, size_hw: Size, max_pixels: int) -> None:
    """Raise BadRequest if a JPEG has too many scans or markers. Call it after Pillow has read the headers.

    Counting marker bytes is fast, but it also counts bytes inside segments. Only if that count is too high does
    :func:`_has_more_scans` go through the file segment by segment.
    """
    height, width = size_hw
    max_scans = min(MAX_SCANS, MAX_SCANNED_IMAGES * max_pixels // (width * height))
    scans = sum(map(np.count_nonzero, _matches(data, SCAN)))
    many = scans > max_scans or np.count_nonzero(np.frombuffer(data, np.uint8) == MARK) > MAX_PARTS
    if many and _has_more_scans(data, max_scans):
        raise BadRequest(f"a JPEG of {width} x {height} must have at most {max_scans} scans, got more")


def _matches(data: bytes, marker: int, start: int = 0) -> Iterator[npt.NDArray[np.bool_]]:
    """Yield bool [n], True where a marker is: at ``start`` and every second byte behind it, then at those between."""
    for octets in (np.frombuffer(data, np.uint8)[first:] for first in (start, start + 1)):
        yield octets[: len(octets) // 2 * 2].view("<u2") == (marker << 8 | MARK)


def _has_more_scans(data: bytes, max_scans: int) -> bool:
    """Return True if a JPEG has more than ``max_scans`` scans or MAX_PARTS markers in front of its end marker."""
    scans = 0
    for parts, (marker, _, _) in enumerate(_segments(data)):
        scans += marker == SCAN
        if scans > max_scans or parts > MAX_PARTS:
            return True
    return False


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield marker, start and end of each segment's content, the end marker as the last one.

    The coded pixels of a scan lie between the end of its segment and the next marker.
    """
    at = len(START)
    while found := MARKER.search(data, at):
        marker, start = found[1][0], found.end()
        if marker == END:
            yield marker, start, start
            return
        at = min(start + int.from_bytes(data[start : start + 2]), len(data))
        yield marker, start + 2, at


def is_baseline(data: bytes) -> bool:
    """Return True if the only frame before the first scan is baseline or extended, and an end marker follows."""
    frames: list[int] = []
    for marker, start, _ in _segments(data):
        if marker == SCAN:
            return frames in ([BASELINE], [EXTENDED]) and data.rfind(bytes([MARK, END])) > start
        if marker in ANY_FRAME:
            frames.append(marker)
    return False


def with_ends(data: bytes) -> list[bytes]:
    """Return a JPEG without an end marker with each of the FILLS and an end marker behind it.

    Return [] if it has an end marker, or if its markers show that pixels are missing.
    """
    if not _has_all_but_the_end(data):
        return []
    body = data.rstrip(b"\0")  # what a file system puts in place of lost bytes; they would pass for coded pixels
    if body.endswith(b"\xff"):  # with a zero, it stands for 255 in the coded pixels; alone, it is half an end marker
        body = body + b"\0" if len(body) < len(data) else body.rstrip(b"\xff")
    return [body + fill * FILL_BYTES + bytes([MARK, END]) for fill in FILLS]


def is_whole(data: bytes) -> bool:
    """Return True if the scans cover the image, the last one has its restart markers, and an end marker follows."""
    return _covers_image(data, ended=True)


def _has_all_but_the_end(data: bytes) -> bool:
    return _covers_image(data, ended=False)


def _covers_image(data: bytes, *, ended: bool) -> bool:
    """Return True if the scans cover the image, and an end marker follows or not, as ``ended`` says.

    The last scan must have its restart markers.
    """
    frame, interval, coded, restarts, scans, end = b"", 0, 0, 0, 0, None
    missing: set[tuple[int, int]] = {(-1, 0)}  # component and coefficient
    for parts, (marker, start, after) in enumerate(_segments(data)):
        content = data[start:after]
        if parts > MAX_PARTS:
            return False
        if marker == END:
            end = start
        elif marker in FRAMES:
            if frame or len(content[6::3]) > MAX_COMPONENTS:
                return False
            frame = content
            missing = {(component, place) for component in frame[6::3] for place in range(BLOCK * BLOCK)}
        elif marker == RESTART_INTERVAL:
            interval = int.from_bytes(content[:2])
        elif marker == SCAN:
            scans += 1
            components = content[1 : 1 + 2 * content[0] : 2]
            if scans > MAX_SCANS or not set(components) <= set(frame[6::3]):
                return False
            first, last, precision = content[1 + 2 * content[0] :][:3]
            if len(components) > MAX_COMPONENTS or last >= BLOCK * BLOCK:
                return False
            if precision & 0x0F == 0:
                missing -= {(component, place) for component in components for place in range(first, last + 1)}
            coded, restarts = after, -(-_units(frame, components) // interval) - 1 if interval else 0
    if missing or ended != (end is not None):
        return False
    found = RESTART.finditer(data, coded, len(data) if end is None else end)
    return sum(1 for _ in itertools.islice(found, max(0, restarts))) >= restarts


def _units(frame: bytes, components: bytes) -> int:
    """Return the number of units that a scan codes: blocks of its only component, or groups of blocks of several."""
    height, width = int.from_bytes(frame[1:3]), int.from_bytes(frame[3:5])
    sampling = {component: divmod(factors, 16) for component, factors in zip(frame[6::3], frame[7::3], strict=True)}
    across = max(factor for factor, _ in sampling.values()) or 1  # 0 is wrong: the decoder refuses it
    down = max(factor for _, factor in sampling.values()) or 1
    if len(components) > 1:
        return -(-width // (BLOCK * across)) * -(-height // (BLOCK * down))
    own_across, own_down = sampling[components[0]]
    columns, rows = -(-width * own_across // across), -(-height * own_down // down)
    return -(-columns // BLOCK) * -(-rows // BLOCK)


def coefficient_bytes(image: Any, data: bytes) -> float:
    """Return the bytes of each pixel that libjpeg keeps beside it: none of a JPEG opened by Pillow with one scan.

    If the pixels come in several scans, it keeps each coefficient in two bytes until the last one.
    """
    if "progressive" not in image.info:
        first = next((data[start] for marker, start, _ in _segments(data) if marker == SCAN), 0)
        if first >= len(image.layer):
            return 0.0
    largest = max(across for _, across, _, _ in image.layer) * max(down for _, _, down, _ in image.layer)
    return float(COEFFICIENT_BYTES * sum(across * down for _, across, down, _ in image.layer) / max(1, largest))


def checksum(image: Image.Image) -> int:
    """Return a checksum over the pixels of an image."""
    total = 0
    for top, bottom in strips(image):
        total = zlib.crc32(image.crop((0, top, image.width, bottom)).tobytes(), total)
    return total


class ScaledDecode(msgspec.Struct, frozen=True):
    """A decode at 1 / ``factor`` of the size, which will be sampled every ``steps_yx`` pixels of the full image.

    ``coded``: bits per pixel times the square root of the mean quantization step. It measures the detail that the
    encoder kept.

    The predicted error in grey levels is ``WORST_RATIO * fine ** 0.7 * coded ** 0.5``. ``fine`` is the mean absolute
    fourth difference of the reduced image: its finest detail. Source: a fit to 462 JPEGs of 77 photos, pages, textures
    and drawings, qualities 40 to 96, with and without noise. Each was sampled every 2.2, 3 and 3.94 pixels, twice that
    for factor 4. The logarithms of ``fine`` and of the true error correlate with 0.98.
    """

    factor: int
    steps_yx: tuple[float, float]
    coded: float

    def predicted_error(self, reduced: Image.Image) -> float:
        """Return the expected mean absolute error, grey levels, from the image decoded at the reduced size."""
        nearness = sum(map(_nearness_to_centres, self.steps_yx)) / 2
        penalty = 1 + CENTRE_PENALTY * max(0.0, nearness - 0.5)
        return float(WORST_RATIO[self.factor] * penalty * _fine_detail(reduced) ** 0.7 * self.coded**0.5)

    def is_close_enough(self, reduced: Image.Image) -> bool:
        """Return True if the predicted error is at most MAX_ERROR."""
        return self.predicted_error(reduced) <= MAX_ERROR


def plan_scaled_decode(image: Any, needed_hw: Size, data: bytes) -> ScaledDecode | None:
    """Return how to decode a JPEG opened by Pillow if it is used at ``needed_hw``, None for full size."""
    steps_yx = image.height / needed_hw[0], image.width / needed_hw[1]
    fitting = [
        factor for factor in FACTORS if min(steps_yx) >= factor and min(image.height, image.width) >= REACH * factor
    ]
    quantization = image.quantization.get(0)  # table of the luma channel
    if not (fitting and quantization):
        return None
    bits_per_pixel = 8 * _scan_bytes(data) / (image.width * image.height)
    coded = bits_per_pixel * float(np.mean(quantization)) ** 0.5
    factor = next((factor for factor in fitting if coded <= MAX_CODED[factor]), None)
    return None if factor is None else ScaledDecode(factor, steps_yx, coded)


def _scan_bytes(data: bytes) -> int:
    """Return the size of the first image's scans: phones put a thumbnail in front, and more images or films behind."""
    at = next((end for marker, _, end in _segments(data) if marker in (SCAN, END)), len(START))
    ends = [offset + 2 * int(found.argmax()) for offset, found in enumerate(_matches(data, END, at)) if found.any()]
    return min(ends, default=len(data) - at)


def _fine_detail(image: Image.Image) -> float:
    """Return the mean absolute fourth difference (1 -4 6 -4 1) / 16, down and across, in strips of an image."""
    tops = np.linspace(0, image.height - REACH, STRIPS).astype(int).tolist()
    rows = [np.asarray(rows_to_rgb(image, top, top + REACH)) for top in tops]
    pixels = np.stack(rows).astype(np.int16)
    down = _mean_fourth_difference(np.moveaxis(pixels, 1, 0))
    across = _mean_fourth_difference(np.moveaxis(pixels[:, REACH // 2], 1, 0))
    return float(down + across) / 2


def _mean_fourth_difference(x: npt.NDArray[np.int16]) -> float:
    """Return the mean absolute fourth difference along the first axis of int16 [n, ...]."""
    return float(np.abs(x[:-4] + x[4:] - 4 * (x[1:-3] + x[3:-1]) + 6 * x[2:-2]).mean()) / 16


def _nearness_to_centres(step: float) -> float:
    """Return how near samples every ``step`` pixels lie to pixel centres, on average: 1 at a centre, 0 midway."""
    at = (np.arange(SAMPLES) + 0.5) * step - 0.5
    return float(np.abs(1 - 2 * (at - np.floor(at))).mean())
