"""PNG, JPEG, WebP and EXIF by hand, where Pillow cannot write what a test needs."""

import struct
import zlib

import numpy as np

PNG = b"\x89PNG\r\n\x1a\n"
ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))  # x y dx dy
ORIENTATION, COMPRESSION, THUMBNAIL_AT, THUMBNAIL_LENGTH = 0x0112, 0x0103, 0x0201, 0x0202  # EXIF tags


def chunk(kind, data=b""):
    """Return a PNG chunk with its length and checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def chunks(png):
    """Return (kind, data) of every chunk of a whole PNG."""
    found, at = [], len(PNG)
    while at < len(png):
        (length,) = struct.unpack_from(">I", png, at)
        found.append((png[at + 4 : at + 8], png[at + 8 : at + 8 + length]))
        at += 12 + length
    return found


def join(found):
    """Return the PNG made of (kind, data) chunks."""
    return PNG + b"".join(chunk(kind, data) for kind, data in found)


def png(samples, depth, colour, *, interlaced=False, before=(), after=()):
    """Return a PNG of ``samples`` [H, W] or [H, W, C], whole numbers below ``2**depth``, with filter 0 on every row.

    ``before`` and ``after`` are (kind, data) chunks on either side of the pixels.
    """
    height, width = samples.shape[:2]
    passes = [samples[y::dy, x::dx] for x, y, dx, dy in ADAM7] if interlaced else [samples]
    rows = b"".join(b"\0" + _pack(row, depth) for part in passes if part.size for row in part)
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, int(interlaced))
    return join([(b"IHDR", header), *before, (b"IDAT", zlib.compress(rows, 9)), *after, (b"IEND", b"")])


def _pack(row, depth):
    if depth == 16:
        return row.astype(">u2").tobytes()
    if depth == 8:
        return row.astype(np.uint8).tobytes()
    bits = row.reshape(-1, 1) >> np.arange(depth - 1, -1, -1) & 1
    return np.packbits(bits.astype(np.uint8)).tobytes()


def blank_png(width, height):
    """Return a black 1-bit PNG, a byte for about 8000 pixels."""
    row, packer = bytes(1 - (-width // 8)), zlib.compressobj(9)
    packed = b"".join(packer.compress(row * min(1000, height - start)) for start in range(0, height, 1000))
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return join([(b"IHDR", header), (b"IDAT", packed + packer.flush()), (b"IEND", b"")])


def segment(marker, data=b""):
    """Return a JPEG segment, ``marker`` being its second byte."""
    return struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data


def segments(jpeg):
    """Return the pieces of a whole JPEG: the start marker, each segment before the first scan, all the rest."""
    pieces, at = [jpeg[:2]], 2
    while jpeg[at + 1] != 0xDA:
        (length,) = struct.unpack_from(">H", jpeg, at + 2)
        pieces.append(jpeg[at : at + 2 + length])
        at += 2 + length
    return [*pieces, jpeg[at:]]


def with_segment(jpeg, marker, data):
    """Return the JPEG with a segment right after its start."""
    return jpeg[:2] + segment(marker, data) + jpeg[2:]


def exif(orientation, order="<", thumbnail=b""):
    """Return a TIFF block with the orientation and, in a second directory, the thumbnail where there is one."""
    head = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(order + "I", 8)
    first = struct.pack(order + "HHHIHHI", 1, ORIENTATION, 3, 1, orientation, 0, 26 if thumbnail else 0)
    if not thumbnail:
        return head + first
    second = struct.pack(order + "HHHIHH", 3, COMPRESSION, 3, 1, 6, 0)
    second += struct.pack(order + "HHIIHHIII", THUMBNAIL_AT, 4, 1, 68, THUMBNAIL_LENGTH, 4, 1, len(thumbnail), 0)
    return head + first + second + thumbnail


def riff(found):
    """Return the WebP made of (kind, data) chunks."""
    body = b"".join(kind + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2) for kind, data in found)
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def riff_chunks(webp):
    """Return (kind, data) of every chunk of a whole WebP."""
    found, at = [], 12
    while at < len(webp):
        (length,) = struct.unpack_from("<I", webp, at + 4)
        found.append((webp[at : at + 4], webp[at + 8 : at + 8 + length]))
        at += 8 + length + length % 2
    return found


def canvas(width, height, flags=0):
    """Return the VP8X chunk of an extended WebP."""
    size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return b"VP8X", bytes([flags, 0, 0, 0]) + size


def blank_webp(width, height):
    """Return a white lossless WebP: every prefix code has one symbol, so that no pixel takes a bit."""
    fields = [(width - 1, 14), (height - 1, 14), (0, 1 + 3 + 3)]  # no alpha, version 0, no transform, cache or groups
    fields += [(0b101, 3), (255, 8)] * 4 + [(0b0001, 4)]  # green, red, blue and alpha are 255, the distance is 0
    value = at = 0
    for field, bits in fields:
        value |= field << at
        at += bits
    return riff([(b"VP8L", b"\x2f" + value.to_bytes(at // 8 + 4, "little"))])
