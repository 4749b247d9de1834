"""Protobuf's varints: 7 bits a byte, lowest first, with the top bit set where more follow.

Source: protobuf.dev, "Encoding".
"""

import numpy as np
import numpy.typing as npt

LENGTH_DELIMITED = 2  # wire type
MAX_BYTES = 10  # 64 bits; a negative int8 always takes them all


def header(field: int, size: int) -> bytes:
    """Return what precedes ``size`` bytes of a field: its number and wire type, and the size."""
    encoded = bytearray([field << 3 | LENGTH_DELIMITED])
    while size >= 0x80:
        encoded.append(size & 0x7F | 0x80)
        size >>= 7
    encoded.append(size)
    return bytes(encoded)


def decode_int8(run: bytes) -> npt.NDArray[np.int8] | None:
    """Return the codes of packed varints, none empty, if all are 0..127; None if a real parser has to read them.

    Each of these codes is its own byte, so nothing is decoded. A negative code takes ten bytes.
    """
    data = np.frombuffer(run, np.uint8)
    return data.view(np.int8) if data.max() < 0x80 else None
