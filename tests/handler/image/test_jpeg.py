import io
import itertools

import numpy as np
import pytest
import skimage.data
from PIL import Image

from handler.errors import BadRequest
from handler.image import jpeg
from handler.image.decode import Limits, decode_image
from handler.model import mold
from handler.model.contract import Resize

RESIZE = Resize(mode="fit", min_dim=0, max_dim=512)
LARGE = (2016, 1512)  # 3.94 times as wide as the model's frame, as twelve megapixels are for one of 1024
ORIENTATION = 274


def enlarged(name, size, times):
    """Return a photograph repeated and enlarged so that it is soft, as those of phones are at the size of a pixel."""
    tile = getattr(skimage.data, name)()
    tile = np.stack([tile] * 3, -1) if tile.ndim == 2 else tile[..., :3]
    width, height = (int(-(-side // times)) for side in size)
    tiled = np.tile(tile, (-(-height // tile.shape[0]), -(-width // tile.shape[1]), 1))[:height, :width]
    return Image.fromarray(tiled).resize(size, Image.Resampling.BICUBIC)


def encode(image, quality=90, **options):
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality, **options)
    return buffer.getvalue()


def needed(size_hw):
    return mold.resize_rule(size_hw, RESIZE).resized_hw


def difference(data):
    """Return the factor, and the mean absolute difference that it makes in what the model sees."""
    reduced, whole = decode_image(data, Limits(), needed), decode_image(data, Limits())
    assert reduced.size_hw == whole.size_hw
    seen, exact = (mold.mold(photo, RESIZE, padded=False)[0].astype(float) for photo in (reduced, whole))
    return reduced.factor, np.abs(seen - exact).mean()


PHOTOS = ["astronaut", "chelsea", "coffee", "rocket", "retina", "hubble_deep_field", "camera", "text", "gravel"]


def some(cases, every):
    """Return the cases; the first of each ``every`` runs every day, the others in the campaigns."""
    return [
        pytest.param(*case, marks=pytest.mark.campaign if place % every else ()) for place, case in enumerate(cases)
    ]


@pytest.mark.parametrize(("name", "times", "quality"), some(itertools.product(PHOTOS, (1, 2, 4), (60, 80, 95)), 10))
def test_the_model_sees_the_same_within_the_threshold(name, times, quality):
    assert difference(encode(enlarged(name, LARGE, times), quality))[1] <= jpeg.MAX_ERROR


@pytest.mark.parametrize("size", [(1500, 2000), (2000, 1500)])
def test_a_turned_photo_is_reduced_as_the_upright_one_is(size):
    """The frame is no square, so a photo that is stored sideways is needed at another size than its stored one."""
    letterbox = Resize(mode="letterbox", min_dim=0, max_dim=640, frame_hw=(640, 480))
    upright, exif = enlarged("astronaut", size, 4), Image.Exif()
    exif[ORIENTATION] = 6
    sizes = []

    def needed_in_frame(size_hw):
        sizes.append(size_hw)
        return mold.resize_rule(size_hw, letterbox).resized_hw

    turned = encode(upright.transpose(Image.Transpose.ROTATE_90), exif=exif)
    assert [decode_image(data, Limits(), needed_in_frame).factor for data in (encode(upright), turned)] == [2, 2]
    assert set(sizes) == {(size[1], size[0])}


SOFT = [(LARGE, 5, 2), ((1536, 1152), 5, 2), ((4032, 3024), 12, 4), ((1000, 750), 5, 1)]


@pytest.mark.parametrize(
    ("name", "size", "times", "factor"), some([(name, *case) for name in PHOTOS[:6] for case in SOFT], 5)
)
def test_soft_photographs_are_decoded_smaller(name, size, times, factor):
    chosen, apart = difference(encode(enlarged(name, size, times)))
    assert chosen == factor
    assert apart <= jpeg.MAX_ERROR


@pytest.mark.parametrize("quality", [50, 75, 95])
def test_photographs_full_of_the_finest_detail_are_decoded_whole(quality):
    noise = np.random.default_rng(0).normal(128, 30, (LARGE[1], LARGE[0], 3)).clip(0, 255).astype(np.uint8)
    assert difference(encode(Image.fromarray(noise), quality)) == (1, 0)
    assert difference(encode(enlarged("gravel", LARGE, 1), quality)) == (1, 0)


def test_detail_that_the_bytes_do_not_tell_is_seen_in_the_smaller_picture():
    """A quarter of it full of noise: few bits a pixel, but not few where they are."""
    part = np.asarray(enlarged("camera", LARGE, 12)).copy()
    part[:400] = np.random.default_rng(0).normal(128, 25, (400, LARGE[0], 3)).clip(0, 255)
    data = encode(Image.fromarray(part), 60)
    plan = jpeg.plan_scaled_decode(Image.open(io.BytesIO(data)), needed((LARGE[1], LARGE[0])), data)
    assert plan is not None
    assert difference(data) == (1, 0)


@pytest.mark.parametrize(
    ("size", "orientation"), some(itertools.product([(2011, 1509), (1512, 2017), (1025, 1030)], range(1, 9)), 3)
)
def test_sizes_that_do_not_divide_and_every_turn(size, orientation):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    factor, apart = difference(encode(enlarged("astronaut", size, 5), exif=exif))
    assert factor == 2
    assert apart < 0.7  # a pixel's shift would make 2


def test_the_example_of_the_module():
    photo = decode_image(encode(enlarged("chelsea", (4032, 3024), 12)), Limits(), lambda _: (768, 1024))
    assert (photo.factor, photo.image.size) == (2, (2016, 1512))


def test_other_modes_and_kinds():
    image = enlarged("coffee", LARGE, 5)
    assert difference(encode(image.convert("L")))[0] == 2
    assert difference(encode(enlarged("coffee", LARGE, 40).convert("CMYK"), 40))[0] == 2
    assert difference(encode(image, progressive=True))[0] == 2
    buffer = io.BytesIO()
    image.save(buffer, "WEBP")
    assert difference(buffer.getvalue()) == (1, 0)


def test_what_phones_put_around_the_picture_does_not_count():
    image, film = enlarged("astronaut", LARGE, 5), np.random.default_rng(0).bytes(3_000_000)
    exif = Image.Exif()
    exif[270] = "\xff\xd9\xff\xda" * 5000  # as a small picture of its own has them
    for data in (encode(image) + film, encode(image, exif=exif), encode(image, progressive=True, exif=exif) + film):
        assert difference(data)[0] == 2
    buffer = io.BytesIO()
    image.save(buffer, "MPO", save_all=True, append_images=[enlarged("gravel", LARGE, 1)], quality=90)
    assert difference(buffer.getvalue())[0] == 2


def test_an_end_marker_in_front_of_the_headers_has_no_length():
    """libjpeg finds the picture behind it."""
    data = encode(enlarged("coffee", (160, 96), 5))
    assert decode_image(b"\xff\xd8\xff\xd9" + data, Limits(), lambda _: (16, 24)).size_hw == (96, 160)


def test_a_strip_of_a_pixel_is_decoded_whole():
    assert difference(encode(Image.new("RGB", (5000, 3)))) == (1, 0)


def test_a_truncated_photograph_is_refused_all_the_same():
    data = encode(enlarged("coffee", LARGE, 5))
    assert decode_image(data, Limits(), needed).factor == 2
    with pytest.raises(BadRequest, match="truncated"):
        decode_image(data[: len(data) // 2], Limits(), needed)
