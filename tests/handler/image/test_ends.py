"""JPEGs without their end marker: taken if every pixel is there, refused if one is missing."""

import io

import numpy as np
import pytest
import skimage.data
from PIL import Image

from handler.errors import BadRequest
from handler.image import decode, jpeg
from handler.image.decode import Limits, decode_image
from tests.http import raw

PHOTO = Image.fromarray(skimage.data.astronaut()[40:170, :203])
WAYS = {
    "baseline": {},
    "progressive": {"progressive": True},
    "optimized": {"optimize": True},
    "4:4:4": {"subsampling": 0},
    "4:1:1": {"subsampling": "4:1:1"},
    "best": {"quality": 100},
    "worst": {"quality": 10},
    "restart by blocks": {"restart_marker_blocks": 3},
    "restart by rows": {"restart_marker_rows": 1},
    "progressive with restarts": {"progressive": True, "restart_marker_rows": 1},
}
every_way = pytest.mark.parametrize("options", WAYS.values(), ids=WAYS)
every_mode = pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])


def encode(mode, options):
    buffer = io.BytesIO()
    PHOTO.convert(mode).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def pixels(data):
    return np.asarray(decode_image(data, Limits()).upright())


@every_way
@every_mode
@pytest.mark.parametrize("tail", [b"", b"\xff", b"\xff" * 9, bytes(4000)], ids=["cut", "half", "fill", "zeros"])
def test_all_pixels_are_there(mode, options, tail):
    whole = encode(mode, options)
    assert whole.endswith(b"\xff\xd9")
    assert np.array_equal(pixels(whole[:-2] + tail), pixels(whole))


@every_way
@every_mode
def test_pixels_are_missing(mode, options):
    """What is accepted all the same lacks bits that no pixel shows."""
    whole = encode(mode, options)
    truth, refused = pixels(whole), 0
    cuts = [*range(3, 30), *range(30, len(whole) - 700, 401)]
    for cut in cuts:
        try:
            assert np.array_equal(pixels(whole[:-cut]), truth), cut
        except BadRequest:
            refused += 1
    assert refused >= 0.9 * len(cuts)


@every_way
def test_the_end_is_missing_in_a_reduced_decode(options):
    large = PHOTO.resize((2030, 1300), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    large.save(buffer, "JPEG", **options)
    whole = buffer.getvalue()
    photo = decode_image(whole[:-2], Limits(), lambda _: (325, 508))
    assert (photo.factor, photo.size_hw) == (1, (1300, 2030))
    assert np.array_equal(np.asarray(photo.image), pixels(whole))


def test_a_progressive_jpeg_that_ends_between_two_scans_is_refused():
    whole = encode("RGB", WAYS["progressive"])
    starts = [at for at in range(len(whole)) if whole[at : at + 2] == b"\xff\xda"]
    assert len(starts) > 5
    for start in starts[1:]:
        before = whole[:start]
        tables = before.rfind(b"\xff\xc4")  # of the next scan
        for data in (before, before[:tables]):
            with pytest.raises(BadRequest, match="truncated"):
                decode_image(data, Limits())


def test_a_jpeg_that_ends_between_two_restarts_is_refused():
    whole = encode("RGB", WAYS["restart by rows"])
    marks = [at for at in range(len(whole) - 1) if whole[at] == 0xFF and 0xD0 <= whole[at + 1] <= 0xD7]
    assert len(marks) == -(-130 // 16) - 1
    for mark in marks:
        for data in (whole[:mark], whole[: mark + 2]):
            with pytest.raises(BadRequest, match="truncated"):
                decode_image(data, Limits())


def test_orientation_counts_without_an_end():
    whole = raw.with_segment(encode("RGB", {}), 0xE1, b"Exif\0\0" + raw.exif(6))
    assert decode_image(whole[:-2], Limits()).size_hw == (203, 130)


def changed(parts):
    """Return a JPEG whose pieces, start, segments and scan, are replaced by name, without its end."""
    pieces = raw.segments(encode("RGB", {}))
    at = {piece[1]: index for index, piece in enumerate(pieces[1:], 1)}
    for marker, build in parts.items():
        pieces[at[marker]] = build(pieces[at[marker]])
    return b"".join(pieces)[:-2]


@pytest.mark.parametrize(
    "parts",
    [
        {0xC0: lambda frame: 2 * frame},
        {
            0xC0: lambda _: raw.segment(
                0xC0, b"\x08\0\x82\0\xcb\x05" + b"".join(bytes([place, 0x11, 0]) for place in range(1, 6))
            )
        },
        {0xDA: lambda scan: raw.segment(0xDA, b"\x05" + 5 * b"\x01\0" + b"\0\x3f\0") + scan},
        {0xDA: lambda scan: raw.segment(0xDA, b"\x01\x01\0\0\xff\0") + scan},
        {0xDA: lambda scan: jpeg.MAX_SCANS * raw.segment(0xDA, b"\x01\x01\0\0\x3f\0") + scan},
    ],
    ids=["two frames", "five components", "a scan of five", "256 coefficients", "101 scans"],
)
def test_headers_that_no_jpeg_has_are_not_followed(parts):
    assert jpeg.with_ends(changed({})) != []
    assert jpeg.with_ends(changed(parts)) == []


def test_exif_in_many_pieces_is_refused():
    pieces = decode.MAX_EXIF_PIECES * raw.segment(0xE1, b"Exif\0\0")
    whole = encode("RGB", {})
    many = whole[:2] + pieces + whole[2:]
    assert np.array_equal(pixels(many), pixels(whole))
    assert np.array_equal(pixels(whole + 200 * pieces), pixels(whole))  # what comes after the end is not read
    with pytest.raises(BadRequest, match="EXIF of an image must be in at most 100 pieces, got more"):
        pixels(many[:2] + raw.segment(0xE1, b"Exif\0\0") + many[2:])
