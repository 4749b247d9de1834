"""PNG chunks: what is ancillary costs no picture, what is critical stays, and no memory or time is wasted."""

import io
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin

from handler.errors import BadRequest, UnsupportedMedia
from handler.image import decode as decoder
from handler.image import png
from handler.image.decode import Limits
from handler.image.png import MAX_CHUNKS, keep_needed_chunks
from tests.http import raw

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
ANCILLARY = (
    *(b"tEXt", b"zTXt", b"iTXt", b"iCCP", b"gAMA", b"cHRM", b"sRGB", b"pHYs", b"tIME", b"bKGD", b"sBIT", b"hIST"),
    *(b"sPLT", b"eXIf", b"tRNS", b"acTL", b"fcTL", b"cICP", b"caBX", b"prVt"),
)
WHERE = pytest.mark.parametrize("late", [False, True], ids=["before the pixels", "behind them"])


def plain():
    return raw.png(PIXELS, 8, 2)


def with_piece(piece, late=False, whole=None):
    """Return a PNG with the bytes of a chunk right behind its header, or right in front of its end."""
    whole = whole or plain()
    at = len(whole) - 12 if late else len(raw.PNG) + 25
    return whole[:at] + piece + whole[at:]


def pixels(data):
    return np.asarray(decoder.decode_image(data, Limits()).upright())


def damaged(piece):
    return piece[:-1] + bytes([piece[-1] ^ 1])


@WHERE
@pytest.mark.parametrize("name", ANCILLARY)
@pytest.mark.parametrize("content", [b"", b"\0", b"Comment\0by a test", bytes(40)], ids=["empty", "0", "text", "zeros"])
def test_a_wrong_checksum_or_a_wrong_field_of_an_ancillary_chunk_does_not_matter(name, content, late):
    for piece in (damaged(raw.chunk(name, content)), raw.chunk(name, content)):
        data = with_piece(piece, late)
        assert np.array_equal(pixels(data), PIXELS)
        shown = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)  # by libpng
        assert shown is None or np.array_equal(shown[..., ::-1], PIXELS)


def test_the_reported_file():
    image = Image.fromarray(PIXELS)
    notes = PngImagePlugin.PngInfo()
    notes.add_text("Comment", "hello")
    buffer = io.BytesIO()
    image.save(buffer, "PNG", pnginfo=notes)
    data = bytearray(buffer.getvalue())
    data[data.index(b"tEXt") + 4 + len(b"Comment\0hello")] ^= 1
    with pytest.raises(OSError, match="cannot identify"):
        Image.open(io.BytesIO(data), formats=["PNG"])
    assert np.array_equal(pixels(bytes(data)), PIXELS)


@WHERE
@pytest.mark.parametrize("name", [b"zTXt", b"iTXt", b"iCCP"])
@pytest.mark.parametrize("size", [2_000_000, 50_000_000])
def test_much_compressed_text_or_profile_does_not_matter_and_is_never_unpacked(name, size, late, monkeypatch):
    head = b"key\0\1\0\0\0" if name == b"iTXt" else b"key\0\0"
    data = with_piece(raw.chunk(name, head + zlib.compress(bytes(size))), late)
    monkeypatch.setattr(PngImagePlugin, "_safe_zlib_decompress", None)  # a call would fail
    assert np.array_equal(pixels(data), PIXELS)


def test_a_real_colour_profile_changes_no_pixel():
    buffer = io.BytesIO()
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(PIXELS).save(buffer, "PNG", icc_profile=profile + bytes(3_000_000))
    assert np.array_equal(pixels(buffer.getvalue()), PIXELS)


@pytest.mark.parametrize("name", [b"IHDR", b"PLTE"])
def test_a_wrong_checksum_of_a_critical_chunk_is_refused(name):
    data = raw.png(np.zeros((4, 4), int), 8, 3, before=[(b"PLTE", bytes(6))])
    at = data.index(name)
    end = at + 4 + int.from_bytes(data[at - 4 : at])
    with pytest.raises(UnsupportedMedia, match="a PNG that cannot be read: it is broken or truncated"):
        decoder.decode_image(data[:end] + bytes(4) + data[end + 4 :], Limits())


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_missing_pixels_are_refused(share):
    with pytest.raises(BadRequest, match="truncated"):
        decoder.decode_image(plain()[: int(share * len(plain()))], Limits())


def test_an_ancillary_chunk_that_breaks_off_behind_the_pixels_does_not_matter():
    data = plain()[:-12] + raw.chunk(b"tEXt", b"key\0" + bytes(500))
    for end in range(len(plain()) - 12, len(data)):
        assert np.array_equal(pixels(data[:end]), PIXELS)


def test_transparency_counts_if_it_is_whole():
    key = raw.chunk(b"tRNS", PIXELS[0, 0].astype(">u2").tobytes())
    assert pixels(with_piece(key))[0, 0].tolist() == [255, 255, 255]
    assert np.array_equal(pixels(with_piece(damaged(key))), PIXELS)


@WHERE
def test_exif_counts_if_it_is_whole(late):
    turned = np.rot90(PIXELS, -1)
    chunk = raw.chunk(b"eXIf", raw.exif(6))
    assert np.array_equal(pixels(with_piece(chunk, late)), turned)
    assert np.array_equal(pixels(with_piece(damaged(chunk), late)), PIXELS)


@pytest.mark.parametrize("name", [b"tEXt", b"zTXt"])
def test_exif_as_imagemagick_writes_it_counts(name):
    text = b"\nexif\n%8d\n%s\n" % (len(raw.exif(6)), (b"Exif\0\0" + raw.exif(6)).hex().encode())
    content = text if name == b"tEXt" else b"\0" + zlib.compress(text)
    data = with_piece(raw.chunk(name, b"Raw profile type exif\0" + content))
    assert np.array_equal(pixels(data), np.rot90(PIXELS, -1))


def test_of_several_exif_texts_only_the_first_is_unpacked(monkeypatch):
    unpacked = []
    small = png._is_small

    def counted(compressed):
        unpacked.append(compressed)
        return small(compressed)

    monkeypatch.setattr(png, "_is_small", counted)
    text = raw.chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(bytes(png.MAX_TEXT_BYTES + 1)))
    assert np.array_equal(pixels(with_piece(9 * text)), PIXELS)
    assert len(unpacked) == 1
    found = b"\nexif\n%8d\n%s\n" % (len(raw.exif(6)), (b"Exif\0\0" + raw.exif(6)).hex().encode())
    turned = raw.chunk(b"tEXt", b"Raw profile type exif\0" + found)
    assert np.array_equal(pixels(with_piece(damaged(turned) + turned)), np.rot90(PIXELS, -1))


def test_exif_as_a_text_that_is_too_large_or_broken_does_not_count():
    for content in (b"\0" + zlib.compress(bytes(50_000_000)), b"\0nothing packed", b""):
        data = with_piece(raw.chunk(b"zTXt", b"Raw profile type exif\0" + content))
        assert np.array_equal(pixels(data), PIXELS)


def test_nothing_is_copied_if_nothing_is_left_out():
    assert keep_needed_chunks(plain()) == plain()
    data = plain()
    assert keep_needed_chunks(data) is data


def test_what_stays_keeps_its_order():
    before = [(b"gAMA", bytes(4)), (b"PLTE", bytes(range(6))), (b"tRNS", b"\0"), (b"tEXt", b"a\0b")]
    data = raw.png(np.zeros((2, 2), int), 8, 3, before=before, after=[(b"eXIf", raw.exif(1)), (b"tIME", bytes(7))])
    names = [name for name, _ in raw.chunks(keep_needed_chunks(data + b"behind the end"))]
    assert names == [b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"eXIf", b"IEND"]


def test_too_many_chunks_are_refused():
    piece = raw.chunk(b"prVt")
    assert np.array_equal(pixels(with_piece(piece * (MAX_CHUNKS - 3))), PIXELS)
    with pytest.raises(BadRequest, match="at most 25000 chunks, got more"):
        decoder.decode_image(with_piece(piece * MAX_CHUNKS), Limits())
