"""The graph's pixels of a JPEG against the function's, which are Pillow's: every byte, at all sizes, by all rules."""

import functools
import io
import random

import cv2
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from deploy.export import photograph
from handler.image import undecoded
from handler.image.decode import Limits, decode_image
from handler.model import mold
from handler.model.contract import Resize
from tests.http.corpus import lenient, samples
from tests.support import counts

RULES = {
    "square": Resize(mode="square", min_dim=800, max_dim=1024),
    "pad64": Resize(mode="pad64", min_dim=0, max_dim=512),
    "fit": Resize(mode="fit", min_dim=0, max_dim=768),
    "fit, enlarged": Resize(mode="fit", min_dim=100, max_dim=1000, min_scale=1.7),
    "letterbox": Resize(mode="letterbox", min_dim=0, max_dim=640, frame_hw=(480, 640)),
    "stretch": Resize(mode="stretch", min_dim=0, max_dim=640, frame_hw=(640, 600)),
}
DAILY = ("pad64", "letterbox")
SIDES = (1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 33, 64)
SAMPLINGS = ("4:4:4", "4:2:2", "4:2:0", "4:1:1")
PHOTO = [tf.TensorSpec([], tf.string), tf.TensorSpec([], tf.int32)]
GRAPHS = {
    name: tf.function(functools.partial(photograph.codes, resize=rule), input_signature=PHOTO)
    for name, rule in RULES.items()
}


def assert_equal(data, rules):
    """Raise if the graph makes other codes of the JPEG than the function, which decodes it at full size."""
    sent, decoded = undecoded.read(data, Limits()), decode_image(data, Limits())
    for name in rules:
        pixels, frame = mold.mold(decoded, RULES[name], padded=False)
        codes = GRAPHS[name](sent.data, sent.orientation).numpy()
        assert codes.dtype == np.int8
        assert sent.size_hw == frame.image_hw
        np.testing.assert_array_equal(codes.astype(np.int16) + 128, pixels, err_msg=name)


def is_passed(data):
    try:
        return undecoded.read(data, Limits()) is not None
    except undecoded.Unfit:
        return False


@pytest.mark.filterwarnings("ignore::UserWarning")  # of Pillow, about damaged EXIF; the function ignores them, too
@pytest.mark.parametrize(
    "rule", [pytest.param(rule, marks=() if rule in DAILY else pytest.mark.campaign) for rule in RULES]
)
def test_the_corpus(rule):
    passed = [sample.data for sample in (*samples(), *lenient()) if is_passed(sample.data)]
    assert len(passed) >= 40
    for data in passed:
        if data is not passed[-1] or rule == "fit":  # the last one has 50 megapixels
            assert_equal(data, [rule])


def photo(rng, height, width):
    """Return a JPEG of random kind: smooth shapes with a sensor's grain."""
    values = np.random.default_rng(rng.randrange(1 << 30))
    coarse = values.integers(0, 256, (-(-height // 9), -(-width // 9), 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)).astype(int)
    grain = values.integers(-12, 13, smooth.shape)
    image = Image.fromarray((smooth + grain).clip(0, 255).astype(np.uint8))
    options = {"quality": rng.randint(30, 100), "progressive": rng.random() < 0.4, "optimize": rng.random() < 0.3}
    if rng.random() < 0.3:
        options["restart_marker_blocks"] = rng.randint(1, 20)
    if rng.random() < 0.15:
        image = image.convert("L")
    else:
        options |= {"keep_rgb": True} if rng.random() < 0.1 else {"subsampling": rng.choice(SAMPLINGS)}
    exif = Image.Exif()
    exif[0x0112] = rng.randint(1, 8)
    encoded = io.BytesIO()
    image.save(encoded, "JPEG", exif=exif, **options)
    return encoded.getvalue()


@pytest.mark.counted
def test_photographs_of_every_kind():
    rng = random.Random(14)
    for height, width in ((999, 1333), *counts.pick((), ((3000, 4000), (4032, 3024)))):
        assert_equal(photo(rng, height, width), RULES)
    for _ in range(counts.pick(12, 300)):
        height, width = (rng.choice((*SIDES, rng.randint(1, 300), rng.randint(100, 1700))) for _ in "hw")
        assert_equal(photo(rng, height, width), RULES)


@pytest.mark.campaign
@pytest.mark.parametrize("factor", [cv2.IMWRITE_JPEG_SAMPLING_FACTOR_440, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_411])
def test_samplings_that_pillow_does_not_write(factor):
    rng = random.Random(factor)
    for height, width in ((1, 1), (17, 31), (333, 257), (1200, 1600)):
        with Image.open(io.BytesIO(photo(rng, height, width))) as image:
            pixels = np.asarray(image.convert("RGB"))
        written, data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, factor])
        assert written
        assert_equal(data.tobytes(), RULES)


@pytest.mark.parametrize("rule", RULES)
def test_sizes(rule):
    """The oracle is mold.resize_rule, in Python's own numbers."""
    rng = random.Random(3)
    sizes = [(rng.randint(1, 9000), rng.randint(1, 9000)) for _ in range(2000)] + [(a, b) for a in SIDES for b in SIDES]

    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.int32)])
    def resized(sizes_hw):
        return tf.map_fn(lambda size_hw: photograph.size_by_rule(size_hw, RULES[rule]), sizes_hw)

    expected = [mold.resize_rule(size_hw, RULES[rule]).resized_hw for size_hw in sizes]
    np.testing.assert_array_equal(resized(sizes), expected)


def test_an_orientation_that_exif_does_not_have_turns_nothing():
    image = tf.constant(np.arange(18, dtype=np.uint8).reshape(2, 3, 3))
    for orientation in (0, 9, -1):
        assert np.array_equal(photograph.turn(image, tf.constant(orientation)), image)
