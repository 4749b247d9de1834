"""What of a JPEG crosses to the model: every byte that decides a pixel, and no other."""

import io

import numpy as np
import pytest
import skimage.data
from PIL import Image

from handler.image import jpeg, undecoded
from handler.image.decode import Limits
from tests.http import raw

PHOTO = Image.fromarray(skimage.data.astronaut()[40:170, :203])
SECRET = b"52.5200 N 13.4050 E"


def encode(mode="RGB", **options):
    buffer = io.BytesIO()
    PHOTO.convert(mode).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def read(data, **limits):
    return undecoded.read(data, Limits(**limits))


def pixels(data):
    return np.asarray(Image.open(io.BytesIO(data)))


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize(
    "options",
    [{}, {"progressive": True}, {"restart_marker_rows": 1}, {"keep_rgb": True}, {"optimize": True, "quality": 100}],
    ids=str,
)
def test_pixels_stay(mode, options):
    if mode == "L":
        options = {name: value for name, value in options.items() if name != "keep_rgb"}
    data = encode(mode, **options)
    sent = read(data)
    assert np.array_equal(pixels(sent.data), pixels(data))
    assert (sent.size_hw, sent.orientation) == ((130, 203), 1)


def test_metadata_and_what_follows_the_end_do_not_cross():
    thumbnail = encode()
    data = encode(comment=SECRET, dpi=(300, 300), icc_profile=SECRET * 100)
    for marker, content in {
        0xE1: b"Exif\0\0" + raw.exif(6, "<", thumbnail),
        0xE2: b"FPXR\0" + SECRET,
        0xED: b"Photoshop 3.0\0" + SECRET,
        0xEF: SECRET,
        0xE0: b"JFXX\0\x10" + thumbnail,
        0xEE: b"other than Adobe" + SECRET,
    }.items():
        data = raw.with_segment(data, marker, content)
    data = raw.with_segment(data, 0xE1, b"http://ns.adobe.com/xap/1.0/\0" + SECRET) + b"film" + SECRET + thumbnail
    sent = read(data)
    assert SECRET not in sent.data
    assert sent.data.count(jpeg.START) == 1
    assert {piece[1] for piece in raw.segments(sent.data)} <= {0xD8, 0xE0, 0xDB, 0xC0, 0xC4, 0xDA, 0xD9}
    assert len(sent.data) == len(encode())
    assert (sent.size_hw, sent.orientation) == ((203, 130), 6)
    assert np.array_equal(pixels(sent.data), pixels(encode()))


def test_a_thumbnail_of_jfif_does_not_cross():
    data = encode()
    head = data.index(b"JFIF\0")
    size = bytes((2, 1))
    extended = data[: head - 2] + (16 + 6).to_bytes(2) + data[head : head + 12] + size + b"SECRET" + data[head + 14 :]
    assert read(extended).data == read(data).data


@pytest.mark.parametrize("transform", [0, 1])
def test_adobe_says_what_the_colours_are(transform):
    plain = encode()
    (jfif,) = (piece for piece in raw.segments(plain) if piece[1] == 0xE0)
    content = b"Adobe\0\x64\0\0\0\0" + bytes([transform]) + SECRET
    data = raw.with_segment(plain.replace(jfif, b""), 0xEE, content)
    sent = read(data)
    assert SECRET not in sent.data
    assert np.array_equal(pixels(sent.data), pixels(data))
    assert np.array_equal(pixels(data), pixels(plain)) == bool(transform)


def damaged_frame(**fields):
    """Return a JPEG whose frame header has other bytes; ``at5`` is the byte at 5 of the segment's content."""
    pieces = [bytearray(piece) for piece in raw.segments(encode())]
    frame = next(piece for piece in pieces if piece[1] == 0xC0)
    for place, value in fields.items():
        frame[4 + int(place[2:])] = value
    return b"".join(pieces)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "no JPEG"),
        (b"\x89PNG\r\n\x1a\n", "no JPEG"),
        (encode("CMYK"), "neither one component nor three"),
        (encode()[:-2], "not whole"),
        (encode()[:-900], "not whole"),
        (encode(progressive=True).replace(b"\xff\xda", b"\xff\xd9", 3), "not whole"),
        (encode(restart_marker_rows=1).replace(b"\xff\xd0", b"", 1), "not whole"),
        (encode().replace(b"\xff\xc0", b"\xff\xc1"), "neither baseline nor progressive"),
        (encode().replace(b"\xff\xc0", b"\xff\xc9"), "neither baseline nor progressive"),
        (raw.with_segment(encode(), 0xDC, bytes(2)), "neither baseline nor progressive"),
        (encode()[:2] + b"\0" + encode()[2:], "headers"),
        (encode()[:-2] + b"\xff\x01\xff\xd9", "neither baseline nor progressive"),
        (encode()[:9], "headers"),
        (damaged_frame(at0=12), "headers"),
    ],
)
def test_what_the_function_decodes_itself(data, why):
    with pytest.raises(undecoded.Unfit, match=why):
        read(data)


def test_the_limits_of_every_image():
    with pytest.raises(undecoded.Unfit, match="are refused"):
        read(encode(), max_pixels=130 * 203 - 1)
    with pytest.raises(undecoded.Unfit, match="are refused"):
        read(encode(), kinds=("png",))
    assert read(encode(), max_pixels=130 * 203).size_hw == (130, 203)
