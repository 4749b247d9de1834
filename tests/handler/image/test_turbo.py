"""Ordinary JPEGs, decoded by libjpeg-turbo alone: the pixels and the errors are Pillow's."""

import io
import itertools
import random
from unittest import mock

import numpy as np
import pytest
import simplejpeg
import skimage.data
from PIL import Image

from handler.image import jpeg, turbo
from handler.image.decode import Limits, decode_image
from tests.handler.image import fuzz
from tests.support import counts

PHOTO = Image.fromarray(skimage.data.astronaut())
SIDES = (1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 33, 64, 203)
SAMPLINGS = ("4:4:4", "4:2:2", "4:2:0", "4:1:1")
WAYS = {
    "plain": {},
    "optimized": {"optimize": True},
    "best": {"quality": 100},
    "worst": {"quality": 5},
    "restarts": {"restart_marker_blocks": 3},
}
MUTANTS = counts.pick(500, 20_000)


def encode(size_wh, mode="RGB", **options):
    buffer = io.BytesIO()
    PHOTO.crop((100, 60, 100 + size_wh[0], 60 + size_wh[1])).convert(mode).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def by_pillow(data, factor=1):
    """Return RGB uint8 [h, w, 3], as Pillow decodes it."""
    with Image.open(io.BytesIO(data)) as image:
        if factor > 1:
            image.draft(image.mode, (image.width // factor, image.height // factor))
        return np.asarray(image.convert("RGB"))


def by_turbo(data, factor=1, *, padded=False):
    with Image.open(io.BytesIO(data)) as image:
        if factor > 1:
            image.draft(image.mode, (image.width // factor, image.height // factor))
        return turbo.decode(image, data, factor, padded=padded)


def assert_same(data, factor=1):
    expected = by_pillow(data, factor)
    assert np.array_equal(by_turbo(data, factor), expected)
    assert np.array_equal(by_turbo(data, factor, padded=True)[..., :3], expected)


@pytest.mark.parametrize("options", WAYS.values(), ids=WAYS)
def test_each_way_of_encoding_gives_the_same_pixels(options):
    for sampling in SAMPLINGS:
        assert_same(encode((203, 131), subsampling=sampling, **options))


def test_components_that_are_rgb_already_give_the_same_pixels():
    assert_same(encode((203, 131), keep_rgb=True))


@pytest.mark.counted
def test_each_size_gives_the_same_pixels():
    sides = counts.pick(SIDES[::2], SIDES)
    for size_wh, sampling in itertools.product(itertools.product(sides, sides), SAMPLINGS):
        assert_same(encode(size_wh, subsampling=sampling))


@pytest.mark.parametrize("factor", [2, 4])
def test_a_reduced_decode_gives_the_same_pixels(factor):
    for size_wh in itertools.product((20, 21, 22, 23, 64, 203), repeat=2):
        assert_same(encode(size_wh), factor)


@pytest.mark.parametrize(
    "data",
    [
        encode((64, 64), progressive=True),
        encode((64, 64), "CMYK"),
        encode((64, 64), "L"),
        encode((64, 64))[:-2],
        encode((64, 64), quality=95)[:-400] + b"\xff\xd9",
        encode((64, 64)).replace(b"\xff\xd9", bytes(99) + b"\xff\xd9"),
    ],
    ids=["progressive", "CMYK", "grey", "no end", "cut", "bytes before the end"],
)
def test_what_is_not_ordinary_is_left_to_pillow(data):
    assert by_turbo(data) is None


@pytest.mark.parametrize("frame", sorted(jpeg.ANY_FRAME - {jpeg.BASELINE, jpeg.EXTENDED}))
def test_no_other_kind_of_frame_reaches_the_library(frame):
    """A lossless frame, 0xC3, would be written beyond the buffer."""
    data = encode((64, 64)).replace(b"\xff\xc0", bytes([jpeg.MARK, frame]))
    with mock.patch.object(simplejpeg, "decode_jpeg", side_effect=AssertionError):
        image = Image.open(io.BytesIO(encode((64, 64))))
        for factor in (1, 2):
            assert turbo.decode(image, data, factor, padded=False) is None


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
@pytest.mark.parametrize("needed_hw", [None, (16, 24), (12, 16)])
def test_each_kind_of_whole_file_gives_what_pillow_gives(needed_hw):
    assert not any(fuzz.differs(data, needed_hw) for data in fuzz.whole())


def test_a_lossless_file_is_decoded():
    photo = decode_image(fuzz.lossless((48, 64)), Limits(), lambda _: (12, 16))
    assert np.array_equal(np.unique(np.asarray(photo.upright())), [128])


def test_a_header_that_names_another_size_than_pillow_read_is_left_to_pillow():
    data = encode((64, 48))
    for size_hw in ((8, 8), (48, 65), (480, 640)):
        image = Image.open(io.BytesIO(data))
        image._size = size_hw[::-1]
        assert turbo.decode(image, data, 1, padded=False) is None


def test_a_photo_that_is_used_as_it_is_becomes_an_array_without_a_copy():
    photo = decode_image(encode((64, 48)), Limits())
    assert isinstance(photo.pixels, np.ndarray)
    assert np.array_equal(np.asarray(photo.upright()), by_pillow(encode((64, 48))))


def test_a_photo_that_is_resized_becomes_an_image_on_the_same_memory():
    data = encode((64, 48))
    pixels = by_turbo(data, padded=True)
    image = turbo.as_image(pixels)
    assert image.mode == "RGB"
    assert np.array_equal(np.asarray(image), by_pillow(data))
    pixels[5, 7, :3] = 1, 2, 3
    assert image.getpixel((7, 5)) == (1, 2, 3)
    small = (20, 15)
    assert np.array_equal(np.asarray(image.resize(small)), np.asarray(Image.fromarray(np.asarray(image)).resize(small)))


@pytest.mark.counted
def test_broken_files_give_the_pixels_and_the_errors_of_pillow():
    rng = random.Random(0)
    whole = [encode((64, 48), subsampling=sampling) for sampling in SAMPLINGS] + [encode((64, 48), "L")]
    mutants = [fuzz.mutant(rng, rng.choice(whole)) for _ in range(MUTANTS)]
    assert not any(fuzz.differs(data) for data in mutants)
    assert sum(map(is_by_turbo, mutants)) > MUTANTS // 20


def test_a_difference_is_found():
    data = encode((64, 48))
    with mock.patch.object(turbo, "decode", return_value=np.zeros((48, 64, 3), np.uint8)):
        outcome = fuzz.outcome(data)
    assert outcome != fuzz.outcome(data)
    assert not fuzz.differs(data)


def is_by_turbo(data):
    try:
        return by_turbo(data) is not None
    except Exception:  # noqa: BLE001 - Pillow raises any kind for a broken header
        return False
