"""Protobuf's varints: 7 bits per byte, lowest first; the top bit is set if more bytes follow.

Source: protobuf.dev, "Encoding".
"""

import numpy as np
import numpy.typing as npt

LENGTH_DELIMITED = 2  # wire type
MAX_BYTES = 10  # 64 bits; a negative int8 always takes them all


def header(field: int, size: int) -> bytes:
    """Return the header of a length-delimited field: its number with the wire type, and ``size`` as a varint."""
    encoded = bytearray([field << 3 | LENGTH_DELIMITED])
    while size >= 0x80:
        encoded.append(size & 0x7F | 0x80)
        size >>= 7
    encoded.append(size)
    return bytes(encoded)


def decode_int8(run: bytes) -> npt.NDArray[np.int8] | None:
    """Return int8 codes [n] of packed varints (n > 0), or None if one of them is not in 0..127.

    A code in 0..127 is its own byte, so nothing needs decoding. A negative code takes ten bytes.
    """
    data = np.frombuffer(run, np.uint8)
    return data.view(np.int8) if data.max() < 0x80 else None
