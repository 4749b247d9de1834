import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from handler.backend import protos, varint

NEGATIVE = b"\xff" * 8 + b"\x01"
PLAIN = [b"\0", b"\x01", b"\x7f", b"\x80" + NEGATIVE, b"\xff" + NEGATIVE, b"\xc3" + NEGATIVE]  # as int8 codes are
OTHERS = [b"\xc8\x01", b"\x80\0", NEGATIVE, b"\xff" * 9 + b"\0", b"\xff" * 9 + b"\x7f", b"\xff" * 10 + b"\x01"]
CUT = [b"\x80" * 9 + b"\x01", b"\xff", b"\xff" * 8]


def by_protobuf(run):
    """Return what protobuf reads, None where it refuses."""
    try:
        return list(protos.TensorProto.FromString(varint.header(7, len(run)) + run).int_val)
    except DecodeError:
        return None


@given(
    st.lists(st.sampled_from([*PLAIN, *OTHERS, *CUT]), min_size=1, max_size=40), st.sampled_from([1, 3, 16, 1 << 16])
)
def test_codes_are_what_protobuf_reads_or_none(pieces, block):
    run = b"".join(pieces)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(varint, "BLOCK", block)
        codes = varint.decode_int8(run)
    values = by_protobuf(run)
    plain = set(pieces) <= set(PLAIN)
    assert (codes is not None) or not plain
    if codes is not None:
        assert codes.tolist() == values


@given(st.binary(min_size=1, max_size=60))
def test_any_bytes_are_read_as_protobuf_reads_them_or_not_at_all(run):
    codes = varint.decode_int8(run)
    assert codes is None or codes.tolist() == by_protobuf(run)


@pytest.mark.parametrize("share", [0, 1e-5, 0.01, 0.5, 1])
def test_many_codes(share):
    random = np.random.default_rng(0)
    codes = random.integers(0, 128, 300_000).astype(np.int8)
    codes[random.random(len(codes)) < share] ^= -128
    run = protos.TensorProto(int_val=codes.tolist()).SerializeToString()
    start = len(varint.header(7, len(codes) + 9 * int((codes < 0).sum())))
    assert np.array_equal(varint.decode_int8(run[start:]), codes)


@pytest.mark.parametrize("size", [0, 1, 127, 128, 16383, 16384, 3_145_728, 1 << 31])
def test_headers_are_protobufs(size):
    assert varint.header(4, size)[:1] == b"\x22"
    dim = protos.TensorProto.FromString(b"").tensor_shape.dim.add(size=size)
    assert varint.header(4, size)[1:] == (dim.SerializeToString()[1:] or b"\0")
