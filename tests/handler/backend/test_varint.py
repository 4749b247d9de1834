import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from handler.backend import protos, varint


def by_protobuf(run):
    """Return what protobuf reads, None where it refuses."""
    try:
        return list(protos.TensorProto.FromString(varint.header(7, len(run)) + run).int_val)
    except DecodeError:
        return None


@given(st.binary(min_size=1, max_size=60))
def test_any_bytes_are_read_as_protobuf_reads_them_or_not_at_all(run):
    codes = varint.decode_int8(run)
    assert codes is None or codes.tolist() == by_protobuf(run)


def test_codes_from_0_to_127_are_their_own_bytes():
    codes = np.random.default_rng(0).integers(0, 128, 300_000).astype(np.int8)
    run = protos.TensorProto(int_val=codes.tolist()).SerializeToString()[-len(codes) :]
    assert np.array_equal(varint.decode_int8(run), codes)
    assert varint.decode_int8(run + bytes.fromhex("ffffffffffffffffff01")) is None  # -1


@pytest.mark.parametrize("size", [0, 1, 127, 128, 16383, 16384, 3_145_728, 1 << 31])
def test_headers_are_protobufs(size):
    assert varint.header(4, size)[:1] == b"\x22"
    dim = protos.TensorProto.FromString(b"").tensor_shape.dim.add(size=size)
    assert varint.header(4, size)[1:] == (dim.SerializeToString()[1:] or b"\0")
