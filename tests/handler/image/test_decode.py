import contextlib
import io
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps, PngImagePlugin

from handler.errors import BadRequest, ClientError, TooLarge, UnsupportedMedia
from handler.image import decode as decoder
from handler.image.decode import Limits

LIMITS = Limits(max_pixels=10**6)
PHOTO = np.random.default_rng(0).integers(0, 256, (40, 30, 3), np.uint8)


def decode_image(data, limits=LIMITS):
    decoded = decoder.decode_image(data, limits)
    upright = decoded.upright()
    assert (upright.mode, upright.height, upright.width) == ("RGB", *decoded.size_hw)
    return np.asarray(upright)


def encode(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def test_png_and_lossless_webp_are_exact():
    for data in (encode(Image.fromarray(PHOTO)), encode(Image.fromarray(PHOTO), "WEBP", lossless=True)):
        decoded = decode_image(data)
        assert decoded.dtype == np.uint8
        assert np.array_equal(decoded, PHOTO)


@pytest.mark.parametrize("orientation", range(10))
def test_exif_orientation_is_applied(orientation):
    exif = Image.Exif()
    exif[274] = orientation
    data = encode(Image.fromarray(PHOTO), exif=exif)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    assert np.array_equal(decode_image(data), np.asarray(expected))


XMP = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'><rdf:Description tiff:Orientation=\"6\"/></x:xmpmeta>"


def with_xmp(kind, exif):
    image = Image.fromarray(PHOTO)
    options = {"exif": exif} if exif else {}
    if kind == "PNG":
        options["pnginfo"] = PngImagePlugin.PngInfo()
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", XMP.decode())
    elif kind == "TIFF":
        options["tiffinfo"] = {700: XMP}
    else:
        options["xmp"] = XMP
    return encode(image, kind, **options)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_an_orientation_in_xmp_turns_no_picture(kind):
    limits = Limits(kinds=(kind.lower(),))
    data = with_xmp(kind, exif=None)
    assert ImageOps.exif_transpose(Image.open(io.BytesIO(data))).size == (40, 30)  # Pillow takes it
    assert decode_image(data, limits).shape == PHOTO.shape


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", [None, 1, 3])
def test_exif_counts_beside_xmp(kind, orientation):
    exif = Image.Exif()
    exif[305] = "a test"
    if orientation:
        exif[274] = orientation
    data = with_xmp(kind, exif)
    shown = decode_image(data)
    flat = np.asarray(Image.open(io.BytesIO(data)))
    assert np.array_equal(shown, flat[::-1, ::-1] if orientation == 3 else flat)


def test_other_tags_of_the_wrong_type_do_not_matter():
    exif = Image.Exif()
    exif[274], exif[282] = 6, 72.0
    data = bytearray(encode(Image.fromarray(PHOTO), "JPEG", exif=exif))
    rational = data.index(b"\x01\x1a\x00\x05")  # XResolution, as a fraction
    data[rational + 3] = 2  # as text
    assert decode_image(bytes(data)).shape == (30, 40, 3)


def test_a_jpeg_of_a_thousand_scans_is_refused():
    data = encode(Image.fromarray(PHOTO), "JPEG", progressive=True)
    start = data.rindex(b"\xff\xda")
    with pytest.raises(BadRequest, match="at most 100 scans, got more"):
        decode_image(data[:-2] + data[start:-2] * 1000 + data[-2:])
    assert decode_image(data).shape == PHOTO.shape


def test_the_scans_of_a_large_jpeg_are_fewer():
    data = encode(Image.new("L", (1000, 1000)), "JPEG", progressive=True)
    start = data.rindex(b"\xff\xda")
    with pytest.raises(BadRequest, match="a JPEG of 1000 x 1000 must have at most 20 scans"):
        decode_image(data[:-2] + data[start:-2] * 30 + data[-2:])
    assert decode_image(data).shape == (1000, 1000, 3)


def test_what_follows_the_end_of_a_jpeg_does_not_count():
    """Phones append films to their photographs."""
    data = encode(Image.fromarray(PHOTO), "JPEG")
    film = np.random.default_rng(1).bytes(3_000_000) + b"\xff\xda" * 500
    assert np.array_equal(decode_image(data + film), decode_image(data))
    exif = Image.Exif()
    exif[270] = "\xff\xda" * 500
    assert (
        decode_image(encode(Image.fromarray(PHOTO), "JPEG", exif=exif, comment=b"\xff\xda" * 500)).shape == PHOTO.shape
    )


def test_a_jpeg_of_a_million_parts_between_its_scans_is_refused():
    data = encode(Image.fromarray(PHOTO), "JPEG", progressive=True)
    start = data.rindex(b"\xff\xda")
    with pytest.raises(BadRequest, match="scans, got more"):
        decode_image(data[:start] + b"\xff\xfe\x00\x02" * 200_000 + data[start:])


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (b"\0\0\0\x18ftypheic" + bytes(50), "a HEIC photo.*send it as JPEG"),
        (b"\0\0\0\x18ftypmif1" + bytes(50), "a HEIC photo"),
        (b"\0\0\0\x18ftypmp42" + bytes(50), "a film"),
        (b"GIF89a" + bytes(50), "a GIF"),
        (b"<svg>", "markup such as SVG"),
        (b"hello", "5 bytes that are none of them"),
        (b"\xff\xd8\xff\xff", "a JPEG that cannot be read"),
        (b"RIFF\x04\0\0\0WAVE", "a RIFF file such as WAV"),
        (b"RIFF\x04\0\0\0WEBP", "a WebP that cannot be read: it is broken or truncated"),
        (b"MM\0+" + bytes(50), "a TIFF"),
    ],
)
def test_what_else_it_is_is_named(data, named):
    with pytest.raises(UnsupportedMedia, match=f"jpeg, png, webp, got {named}"):
        decode_image(data)


def test_other_kinds_where_they_are_allowed():
    data = encode(Image.fromarray(PHOTO), "BMP")
    assert np.array_equal(decode_image(data, Limits(kinds=("bmp",))), PHOTO)
    with pytest.raises(UnsupportedMedia, match="must be bmp"):
        decode_image(encode(Image.fromarray(PHOTO)), Limits(kinds=("bmp",)))


def tiff(array, **tags):
    return encode(Image.fromarray(array), "TIFF", **tags)


def changed_tag(data, tag, value):
    """Return a little-endian TIFF with another first value of a tag."""
    changed = bytearray(data)
    (directory,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, directory)
    (entry,) = (
        at
        for at in range(directory + 2, directory + 2 + 12 * count, 12)
        if data[at : at + 2] == tag.to_bytes(2, "little")
    )
    struct.pack_into("<H", changed, entry + 8, value)
    return bytes(changed)


GREY = PHOTO[..., 0]


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (tiff(GREY.astype(np.float32) / 255), "got 1 x 32-bit float"),
        (tiff(GREY.astype(np.int32)), "got 1 x 32-bit signed"),
        (
            changed_tag(tiff(PHOTO), 277, 5),
            "a TIFF that cannot be read: .* got 5 x 8-bit unsigned, compression 1, colours 2",
        ),
        (changed_tag(tiff(PHOTO), 259, 34712), "a TIFF that cannot be read: .*compression 34712"),
        (changed_tag(tiff(PHOTO), 262, 9), "a TIFF that cannot be read: .*colours 9"),
        (tiff(PHOTO)[:10], "a TIFF that cannot be read: it is broken or truncated"),
        (tiff(PHOTO)[:40], "a TIFF that cannot be read: it is broken or truncated"),
        (b"II*\0" + bytes(40), "a TIFF that cannot be read: it is broken or truncated"),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")  # of Pillow; the function ignores them, too
def test_what_about_a_tiff_cannot_be_read_is_named(data, named):
    with pytest.raises(UnsupportedMedia, match=named):
        decode_image(data, Limits(kinds=("png", "tiff")))


def test_integers_in_a_tiff_are_read():
    limits = Limits(kinds=("tiff",))
    assert np.array_equal(decode_image(tiff(PHOTO), limits), PHOTO)
    assert np.array_equal(decode_image(tiff(PHOTO, compression="tiff_lzw"), limits), PHOTO)
    deep = GREY.astype(np.uint16) * 257
    assert np.array_equal(decode_image(tiff(deep), limits)[..., 0], GREY)
    assert np.array_equal(decode_image(encode(Image.fromarray(GREY > 127), "TIFF"), limits)[..., 0], (GREY > 127) * 255)


@pytest.mark.parametrize("kind", ["AVIF", "GIF", "BMP"])
def test_a_truncated_picture_of_another_kind_is_named(kind):
    data = encode(Image.fromarray(PHOTO), kind)
    limits = Limits(kinds=("jpeg", kind.lower()))
    assert decode_image(data, limits).shape == PHOTO.shape
    for end in range(16, len(data) - 30, len(data) // 20):
        with pytest.raises(ClientError, match=r"broken or truncated"):
            decode_image(data[:end], limits)


def test_photos_of_phones_are_within_the_default():
    assert Limits().max_pixels >= max(8160 * 6144, 9248 * 6936, 9280 * 6944)


@pytest.mark.parametrize(
    ("image", "pixel"),
    [
        (Image.new("L", (2, 1), 7), [7, 7, 7]),
        (Image.new("1", (2, 1), 1), [255, 255, 255]),
        (Image.new("LA", (2, 1), (9, 0)), [255, 255, 255]),
        (Image.new("RGBA", (2, 1), (9, 8, 7, 255)), [9, 8, 7]),
        (Image.new("RGBA", (2, 1), (9, 8, 7, 0)), [255, 255, 255]),
        (Image.fromarray(np.full((1, 2), 0x80FF, np.uint16)), [0x80, 0x80, 0x80]),
        (Image.fromarray(np.full((1, 2), 0x00FF, np.uint16)), [0, 0, 0]),
    ],
)
def test_every_mode_becomes_rgb(image, pixel):
    decoded = decode_image(encode(image))
    assert decoded.shape == (1, 2, 3)
    assert decoded[0, 0].tolist() == pixel


def test_cmyk_jpeg():
    assert decode_image(encode(Image.new("CMYK", (8, 8)), "JPEG"))[0, 0].tolist() == [255, 255, 255]


def test_a_transparent_palette_lies_over_white():
    assert decode_image(encode(Image.new("P", (2, 1)), transparency=0))[0, 0].tolist() == [255, 255, 255]


def test_pixels_are_counted_before_decoding():
    bomb = encode(Image.new("1", (4000, 4000)))
    with pytest.raises(TooLarge, match="at most 1000000 pixels, got 4000 x 4000"):
        decode_image(bomb)
    assert decode_image(encode(Image.new("L", (1000, 1000)))).shape == (1000, 1000, 3)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_truncated_images_are_the_clients_fault(kind):
    data = encode(Image.fromarray(PHOTO), kind)
    with pytest.raises(BadRequest, match="truncated"):
        decode_image(data[: len(data) * 2 // 3])


@pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF"])
def test_other_kinds_are_not_accepted(kind):
    with pytest.raises(UnsupportedMedia, match="jpeg, png, webp"):
        decode_image(encode(Image.fromarray(PHOTO), kind))


def test_an_empty_body():
    with pytest.raises(BadRequest, match="no bytes"):
        decode_image(b"")


@given(st.data())
def test_damage_is_an_image_or_the_clients_fault(data):
    kind = data.draw(st.sampled_from(["JPEG", "PNG", "WEBP"]))
    encoded = bytearray(encode(Image.fromarray(PHOTO[:8, :8]), kind))
    for _ in range(data.draw(st.integers(1, 4))):
        encoded[data.draw(st.integers(0, len(encoded) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(ClientError):
        assert decode_image(bytes(encoded)).ndim == 3
