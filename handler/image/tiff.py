"""TIFF only: which samples it has, so that no pixel is read as something else.

Pillow opens floats and 32-bit integers, but then clips them to 0..255: floats of 0..1 would become black.
Source: TIFF, revision 6.0, sections 8 and 19.
"""

import io
import struct
from collections.abc import Mapping
from typing import Any

from PIL import TiffImagePlugin

from handler.errors import UnsupportedMedia

WIDTH, HEIGHT, BITS, COMPRESSION, COLOURS, CHANNELS, SAMPLE_FORMAT = 256, 257, 258, 259, 262, 277, 339  # tags
FORMATS = {1: "unsigned", 2: "signed", 3: "float"}
READABLE_BITS = {1, 2, 4, 8, 16}
READABLE = "1 to 4 channels of unsigned integers of 1, 2, 4, 8 or 16 bits"
BIG = 43  # the version of a BigTIFF; a TIFF has 42


def check_samples(tags: Mapping[int, Any]) -> None:
    """Raise UnsupportedMedia if the samples are floats, signed, or of a size that becomes another brightness."""
    if not (set(_formats(tags)) == {1} and set(_bits(tags)) <= READABLE_BITS):
        raise UnsupportedMedia(f"a TIFF must have {READABLE}, got {_describe(tags)}")


def explain_unreadable(data: bytes) -> str:
    """Return why Pillow cannot open a TIFF, in words for an error."""
    try:
        tags = TiffImagePlugin.ImageFileDirectory_v2(data[: 16 if BIG in data[2:4] else 8])
        file = io.BytesIO(data)
        file.seek(tags.next)
        tags.load(file)
        if all(tag in tags for tag in (WIDTH, HEIGHT, COLOURS)):
            packed = f"compression {tags.get(COMPRESSION, 1)}, colours {tags[COLOURS]}"
            return f"it must have {READABLE}, got {_describe(tags)}, {packed}"
    except (SyntaxError, OSError, ValueError, LookupError, TypeError, struct.error):
        pass
    return "it is broken or truncated"


def _describe(tags: Mapping[int, Any]) -> str:
    bits = "/".join(str(count) for count in sorted(set(_bits(tags))))
    kinds = "/".join(FORMATS.get(code, "undefined") for code in sorted(set(_formats(tags))))
    return f"{tags.get(CHANNELS, 1)} x {bits}-bit {kinds}"


def _bits(tags: Mapping[int, Any]) -> tuple[int, ...]:
    return tuple(tags.get(BITS, (1,)))


def _formats(tags: Mapping[int, Any]) -> tuple[int, ...]:
    return tuple(tags.get(SAMPLE_FORMAT, (1,)))
