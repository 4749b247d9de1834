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


def packed(codes):
    """Return the bytes of codes as protobuf packs them."""
    response = protos.PredictResponse()
    response.outputs["codes"].int_val.extend(codes.tolist())
    return protos.RawPredictResponse.FromString(response.SerializeToString()).outputs["codes"].int_val[0]


@given(st.binary(min_size=1, max_size=60))
def test_any_bytes_are_read_as_protobuf_reads_them_or_not_at_all(run):
    codes = varint.decode_int8(run)
    assert codes is None or codes.tolist() == by_protobuf(run)


def test_codes_from_0_to_127_are_their_own_bytes():
    codes = np.random.default_rng(0).integers(0, 128, 300_000).astype(np.int8)
    run = protos.TensorProto(int_val=codes.tolist()).SerializeToString()[-len(codes) :]
    assert np.array_equal(varint.decode_int8(run), codes)


@pytest.mark.parametrize("places", [[0], [299_999], [0, 1, 2, 150_000, 299_998, 299_999], range(0, 300_000, 400)])
def test_negative_codes_between_others(places):
    codes = np.random.default_rng(0).integers(0, 128, 300_000).astype(np.int8)
    codes[places] = np.random.default_rng(1).integers(-128, 0, len(places))
    run = packed(codes)
    assert len(run) == len(codes) + 9 * len(places)
    assert np.array_equal(varint.decode_int8(run), codes)


@pytest.mark.parametrize(
    "odd",
    [
        "80" * 9,  # has no end
        "80" * 9 + "01",  # -2**63
        "ff" * 9 + "00",
        "fe" + "ff" * 7 + "01",  # nine bytes
        "80" * 5 + "01" + "80" * 4 + "01",
    ],
)
def test_other_forms_are_left_to_protobuf(odd):
    for run in (b"\1" * 900 + bytes.fromhex(odd), bytes.fromhex(odd) + b"\1" * 900):
        assert varint.decode_int8(run) is None


def test_many_negative_codes_are_left_to_protobuf():
    assert varint.decode_int8(packed(np.full(300, -1))) is None


@pytest.mark.parametrize("size", [0, 1, 127, 128, 16383, 16384, 3_145_728, 1 << 31])
def test_headers_are_protobufs(size):
    assert varint.header(4, size)[:1] == b"\x22"
    dim = protos.TensorProto.FromString(b"").tensor_shape.dim.add(size=size)
    assert varint.header(4, size)[1:] == (dim.SerializeToString()[1:] or b"\0")
