"""A JPEG that goes to the model as it is: only its headers are read, and only what decides its pixels is kept.

*Strategy*. The model's graph decodes with TensorFlow, the function with Pillow or simplejpeg. All use libjpeg and give
the same pixels if the file is whole and of a plain kind. So:

1. Open the file with Pillow, which reads headers alone, within the limits of every image.
2. Copy the segments that decide pixels, up to the end marker. Anything out of the ordinary makes the file unfit.
3. Check that the scans of the copy cover the image.

An unfit file is decoded by the function. It is the one that tells a client what is wrong.

EXIF, XMP, colour profiles, comments and thumbnails stay behind, and so do the bytes after the end marker. Two segments
say what the components are, so each is cut to what libjpeg reads: Adobe's, with its transform, and JFIF's.
Source: libjpeg-turbo, jdmarker.c, examine_app0 and examine_app14.
"""

import re
from collections.abc import Iterator

import msgspec

from handler.errors import SegmentError
from handler.image import decode, jpeg
from handler.types import Size

FRAMES = (0xC0, 0xC2)  # baseline, progressive
KEPT = (*FRAMES, 0xC4, 0xDB, jpeg.RESTART_INTERVAL, jpeg.SCAN)  # with the tables of Huffman codes and quantization
JFIF, ADOBE, COMMENT = 0xE0, 0xEE, 0xFE
DROPPED = (*range(JFIF, ADOBE + 2), COMMENT)
JFIF_HEADER = bytes.fromhex("ffe0 0010 4a464946 00 0101 00 0001 0001 0000")  # without density and thumbnail
ADOBE_BYTES, JFIF_BYTES = 12, 14  # of content that libjpeg asks for
MODES = ("L", "RGB")  # Pillow's, of one component and of three
SEGMENT = re.compile(rb"\xff+([^\x00\xff])", re.DOTALL)
AFTER_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]", re.DOTALL)  # no \xff+, which costs ten times as much


class Unfit(Exception):  # noqa: N818 - no error: the image is decoded instead
    """The image cannot go as it is; the message says why."""


class Undecoded(msgspec.Struct, frozen=True):
    """A JPEG without metadata, the size of the photo, upright, and its EXIF orientation, 1..8."""

    data: bytes
    size_hw: Size
    orientation: int


def read(data: bytes, limits: decode.Limits) -> Undecoded:
    """Return a photo that is not decoded. Raises Unfit if it has to be decoded here, or is refused there."""
    if not data.startswith(jpeg.START):
        raise Unfit("the image is no JPEG")
    try:
        with decode.open_image(data, limits) as image:
            mode, height, width = image.mode, image.height, image.width
            orientation = decode.read_orientation(image)
        bare = b"".join(_bare(data))
        whole = jpeg.is_whole(bare)
    except (SegmentError, *decode.DECODE_ERRORS) as error:
        raise Unfit("the headers of the JPEG cannot be read or are refused") from error
    if mode not in MODES:
        raise Unfit("the JPEG has neither one component nor three")
    if not whole:
        raise Unfit("the JPEG is not whole")
    turned = decode.TURNS.get(orientation) in decode.SIDEWAYS
    size_hw = (width, height) if turned else (height, width)
    return Undecoded(bare, size_hw, int(orientation) if orientation in decode.TURNS else 1)


def _bare(data: bytes) -> Iterator[bytes]:
    """Yield the pieces of a JPEG that decide its pixels. Raises Unfit if it has anything else but metadata."""
    yield jpeg.START
    at, frames = len(jpeg.START), 0
    while found := SEGMENT.match(data, at):
        marker, start = found[1][0], found.end()
        head = bytes((jpeg.MARK, marker))
        if marker == jpeg.END:
            yield head
            return
        at = start + int.from_bytes(data[start : start + 2])
        content = data[start + 2 : at]
        frames += marker in FRAMES
        if marker not in (*KEPT, *DROPPED) or frames > 1:
            raise Unfit("the JPEG is neither baseline nor progressive")
        if marker in KEPT:
            yield head + data[start:at]
        elif marker == ADOBE and content.startswith(b"Adobe") and len(content) >= ADOBE_BYTES:
            yield head + (2 + ADOBE_BYTES).to_bytes(2) + content[:ADOBE_BYTES]
        elif marker == JFIF and content.startswith(b"JFIF\0") and len(content) >= JFIF_BYTES:
            yield JFIF_HEADER
        if marker == jpeg.SCAN:
            after = AFTER_SCAN.search(data, at)
            coded_end = after.start() if after else len(data)
            yield data[at:coded_end]
            at = coded_end
    raise Unfit("the JPEG is not whole")
