"""Protobuf's varints: 7 bits per byte, lowest first; the top bit is set if more bytes follow.

Source: protobuf.dev, "Encoding".
"""

import numpy as np
import numpy.typing as npt

LENGTH_DELIMITED = 2  # wire type
MAX_BYTES = 10  # 64 bits; a negative int8 always takes them all
MANY = 0.1  # of the bytes: above this share, protobuf is as fast
SIGN = np.array([0xFF] * 8 + [0x01], np.uint8)  # the last nine of them


def header(field: int, size: int) -> bytes:
    """Return the header of a length-delimited field: its number with the wire type, and ``size`` as a varint."""
    encoded = bytearray([field << 3 | LENGTH_DELIMITED])
    while size >= 0x80:
        encoded.append(size & 0x7F | 0x80)
        size >>= 7
    encoded.append(size)
    return bytes(encoded)


def decode_int8(run: bytes) -> npt.NDArray[np.int8] | None:
    """Return int8 codes [n] of packed varints (n > 0), or None if one has another form or many are negative.

    A code in 0..127 is its own byte. A negative code is its own byte, too, followed by eight of 0xff and one of 0x01,
    which only extend its sign to 64 bits.
    """
    data = np.frombuffer(run, np.uint8)
    if data.max() < 0x80:
        return data.view(np.int8)
    is_high = data >= 0x80
    if np.count_nonzero(is_high) > MANY * len(data):
        return None
    high = np.flatnonzero(is_high)
    if len(high) % (MAX_BYTES - 1) or high[-1] + 1 == len(data):
        return None
    first = high[:: MAX_BYTES - 1, None]
    extension = first + np.arange(1, MAX_BYTES)
    if not np.array_equal(extension[:, :-1], high.reshape(len(first), -1)[:, 1:]):
        return None
    if (data[extension] != SIGN).any():
        return None
    own = np.ones(len(data), np.bool_)
    own[extension] = False
    return data[own].view(np.int8)
