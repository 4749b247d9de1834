"""HEIC, as iPhones store photographs, with the package that reads it."""

import contextlib
import io

import numpy as np
import pytest
import skimage.data
from PIL import Image

from handler.errors import ClientError, TooLarge, UnsupportedMedia
from handler.image.decode import Limits, decode_image

pillow_heif = pytest.importorskip("pillow_heif")
PHOTO = skimage.data.astronaut()[:160, :240]
LIMITS = Limits(kinds=("jpeg", "heic"))


def heic(array=PHOTO, **options):
    buffer = io.BytesIO()
    pillow_heif.from_pillow(Image.fromarray(array)).save(buffer, quality=95, **options)
    return buffer.getvalue()


def difference(data, expected):
    shown = np.asarray(decode_image(data, LIMITS).upright())
    assert shown.shape == expected.shape
    return np.abs(shown.astype(int) - expected).mean()


def test_it_is_read():
    assert difference(heic(), PHOTO) < 3


def test_an_orientation_is_applied_once():
    exif = Image.Exif()
    exif[274] = 6
    assert difference(heic(exif=exif.tobytes()), np.rot90(PHOTO, -1)) < 3


def test_transparency_becomes_white():
    seen = np.dstack([PHOTO, np.full(PHOTO.shape[:2], 255, np.uint8)])
    seen[:80, :, 3] = 0
    shown = np.asarray(decode_image(heic(seen), LIMITS).upright())
    assert (shown[:72] == 255).all()
    assert np.abs(shown[88:].astype(int) - PHOTO[88:]).mean() < 3


def test_its_pixels_are_counted():
    with pytest.raises(TooLarge, match="at most 1000 pixels, got 240 x 160"):
        decode_image(heic(), Limits(1000, ("heic",)))


def test_it_has_to_be_allowed():
    with pytest.raises(UnsupportedMedia, match=r"must be jpeg, png, webp, got a HEIC photo.*send it as JPEG"):
        decode_image(heic(), Limits())


def test_a_part_of_it_is_refused():
    data = heic()
    for end in range(16, len(data) - 1, len(data) // 50):
        with pytest.raises(ClientError, match="broken or truncated"):
            decode_image(data[:end], LIMITS)


def test_damage_is_an_image_or_the_clients_fault():
    data, rng = heic(), np.random.default_rng(0)
    for _ in range(150):
        damaged = bytearray(data)
        for at in rng.integers(0, len(data), 3):
            damaged[at] = rng.integers(256)
        with contextlib.suppress(ClientError):
            assert decode_image(bytes(damaged), LIMITS).upright().mode == "RGB"
