"""Protobuf's varints: 7 bits a byte, lowest first, with the top bit set where more follow.

Source: protobuf.dev, "Encoding".
"""

import numpy as np
import numpy.typing as npt

LENGTH_DELIMITED = 2  # wire type
MAX_BYTES = 10  # 64 bits; a negative int8 always takes them all
BLOCK = 1 << 14  # bytes looked at together


def header(field: int, size: int) -> bytes:
    """Return what precedes ``size`` bytes of a field: its number and wire type, and the size."""
    encoded = bytearray([field << 3 | LENGTH_DELIMITED])
    while size >= 0x80:
        encoded.append(size & 0x7F | 0x80)
        size >>= 7
    encoded.append(size)
    return bytes(encoded)


def decode_int8(run: bytes) -> npt.NDArray[np.int8] | None:
    """Return the codes of packed varints, or None where one is not the plain encoding of an int8.

    A negative code -128..-1 starts with its own low 7 bits, goes on with eight bytes of ones, and ends in 1.
    """
    data = np.frombuffer(run, np.uint8)
    if data.max() < 0x80:
        return data.view(np.int8)
    codes: list[npt.NDArray[np.uint8]] = []
    start = ones = 0  # where the next varint starts; bytes 0xFF beyond those that plain negative codes have
    for at in range(0, len(data), BLOCK):
        block = data[at : at + BLOCK]
        if start == at and block.max() < 0x80:
            codes.append(block)
            start += len(block)
            continue
        ends = at + np.flatnonzero(block < 0x80)
        starts = np.concatenate([[start], ends + 1])
        firsts = data[starts[:-1]]
        negative = firsts >= 0x80
        last = ends[negative]
        if not ((starts[1:][negative] - starts[:-1][negative] == MAX_BYTES).all() and (data[last] == 1).all()):
            return None
        ones += int(np.count_nonzero(block == 0xFF) - np.count_nonzero(firsts == 0xFF)) - (MAX_BYTES - 2) * len(last)
        codes.append(firsts)
        start = int(starts[-1])
    if start < len(data) or ones:
        return None
    return np.concatenate(codes).view(np.int8)  # a negative's first byte has its top bit set: it is the code
