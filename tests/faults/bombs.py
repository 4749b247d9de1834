"""Small PNGs that decode to much: 49 megapixels of one colour each."""

import struct
import zlib

from tests.http import raw

SIDE_PX = 7000
KINDS = {  # name -> bytes of a pixel, PNG's colour type, chunks before the pixels
    "RGB": (3, 2, ()),
    "RGBA": (4, 6, ()),
    "RGB, turned": (3, 2, ((b"eXIf", raw.exif(6)),)),
    "16-bit grey and alpha": (4, 4, ()),
}


def bombs():
    """Return name -> PNG."""
    return {name: _png(*kind) for name, kind in KINDS.items()}


def _png(pixel_bytes, colour, before):
    depth = 16 if colour == 4 else 8
    header = struct.pack(">IIBBBBB", SIDE_PX, SIDE_PX, depth, colour, 0, 0, 0)
    packer = zlib.compressobj(9)
    row = bytes(1 + pixel_bytes * SIDE_PX)
    packed = b"".join(packer.compress(row) for _ in range(SIDE_PX)) + packer.flush()
    return raw.join([(b"IHDR", header), *before, (b"IDAT", packed), (b"IEND", b"")])
