"""Integers -> packed protobuf varints, without a Python object for each value.

A varint holds 7 bits a byte, lowest first, with the high bit set on every byte but the last. Negative values are
written as 64-bit two's complement and always take 10 bytes. Source: protobuf.dev, "Encoding".
"""

from typing import Any

import numpy as np
import numpy.typing as npt

MAX_VARINT_BYTES = 10  # ceil(64 bits / 7)
_CHUNK = 1 << 16  # values whose scratch arrays stay in the cache: 135 ms instead of 218 for a whole mask reply


def varint(value: int) -> bytes:
    """Encode one non-negative integer below 2**64."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def read_varint(data: bytes, start: int) -> tuple[int, int]:
    """Return the integer at ``start`` and the position after it. Raises ValueError if it has no end."""
    value = 0
    for position in range(start, min(start + MAX_VARINT_BYTES, len(data))):
        value |= (data[position] & 0x7F) << 7 * (position - start)
        if data[position] < 0x80:
            return value, position + 1
    raise ValueError(f"a varint must end within {MAX_VARINT_BYTES} bytes and within its buffer, at byte {start}")


def delimited(field: int, *parts: bytes) -> list[bytes]:
    """Wrap ``parts`` in a length-delimited field (wire type 2). They stay unjoined: megabytes are then copied once."""
    return [varint(field << 3 | 2), varint(sum(map(len, parts))), *parts]


def packed(values: npt.NDArray[Any]) -> bytes:
    """Encode the payload of a packed int32, int64, uint32, uint64 or bool field; ``values``: any integers or bool."""
    flat = np.ascontiguousarray(values).reshape(-1)
    if flat.dtype.itemsize == 1:
        return _packed_bytes(flat)
    wide = flat.astype(np.int64).view(np.uint64)  # sign-extended; uint64 keeps its bits
    lengths = np.ones(wide.shape, np.int64)
    for extra in range(1, MAX_VARINT_BYTES):
        lengths += wide >= np.uint64(1) << np.uint64(7 * extra)
    ends = np.cumsum(lengths)
    encoded = np.empty(int(ends[-1]) if ends.size else 0, np.uint8)
    starts = ends - lengths
    for index in range(int(lengths.max(initial=0))):
        present = lengths > index
        group = (wide[present] >> np.uint64(7 * index)) & np.uint64(0x7F)
        more = (lengths[present] > index + 1).astype(np.uint64) << np.uint64(7)
        encoded[starts[present] + index] = (group | more).astype(np.uint8)
    return encoded.tobytes()


def _packed_bytes(flat: npt.NDArray[Any]) -> bytes:
    """Encode one-byte dtypes. Masks have one: 6.35 million values in a Mask R-CNN reply.

    A negative int8 is its own byte (bit 7 is set already), eight bytes 0xFF and 0x01. A code below 0x80 is one byte.
    """
    codes = flat.view(np.uint8)
    if flat.dtype == np.bool_ or not codes.size or int(codes.max()) < 0x80:
        return codes.tobytes()
    high_bytes = MAX_VARINT_BYTES if flat.dtype == np.int8 else 2
    runs = (codes[start : start + _CHUNK] for start in range(0, codes.size, _CHUNK))
    return b"".join(_spread(run, high_bytes) for run in runs)


def _spread(codes: npt.NDArray[np.uint8], high_bytes: int) -> bytes:
    high = codes >= 0x80
    lengths = np.where(high, high_bytes, 1)
    ends = np.cumsum(lengths)
    encoded = np.full(int(ends[-1]), 0xFF, np.uint8)
    encoded[ends - lengths] = codes
    encoded[ends[high] - 1] = 1
    return encoded.tobytes()
