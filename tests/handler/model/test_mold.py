import numpy as np
import pytest
import skimage.transform
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from handler.image.decode import Photo
from handler.model.contract import AnchorInput, Resize
from handler.model.mold import (
    anchors,
    clip_boxes,
    meta,
    mold,
    resize_image,
    resize_rule,
    scale_boxes,
    unmold_boxes,
)

MATTERPORT = Resize(mode="square", min_dim=800, max_dim=1024)
SIDES = st.integers(1, 3000)


def bilinear(image, size_hw):
    """Write the definition out: sample at half-pixel centres, edge repeated."""

    def axis(count, out):
        at = (np.arange(out) + 0.5) * (count / out) - 0.5
        low = np.floor(at).astype(int)
        share = at - low
        return np.clip(low, 0, count - 1), np.clip(low + 1, 0, count - 1), share

    y0, y1, fy = axis(image.shape[0], size_hw[0])
    x0, x1, fx = axis(image.shape[1], size_hw[1])
    fy, fx = fy[:, None, None], fx[None, :, None]
    pixels = image.astype(np.float64)
    top = pixels[y0][:, x0] * (1 - fx) + pixels[y0][:, x1] * fx
    bottom = pixels[y1][:, x0] * (1 - fx) + pixels[y1][:, x1] * fx
    return top * (1 - fy) + bottom * fy


@pytest.mark.parametrize(
    ("size_hw", "resized_hw", "scale", "window"),
    [
        ((480, 640), (768, 1024), 1.6, (128, 0, 896, 1024)),
        ((800, 800), (800, 800), 1.0, (112, 112, 912, 912)),
        ((2000, 1000), (1024, 512), 0.512, (0, 256, 1024, 768)),
        ((100, 100), (800, 800), 8.0, (112, 112, 912, 912)),
        ((1024, 1024), (1024, 1024), 1.0, (0, 0, 1024, 1024)),
    ],
)
def test_matterport_square_by_hand(size_hw, resized_hw, scale, window):
    frame = resize_rule(size_hw, MATTERPORT)
    assert frame.resized_hw == resized_hw
    assert frame.scale == pytest.approx(scale)
    assert frame.frame_hw == (1024, 1024)
    assert frame.window == window


@pytest.mark.parametrize("size_hw", [(480, 640), (10, 900), (64, 64)])
def test_stretch_squeezes_an_image_whatever_its_aspect(size_hw):
    image = np.random.default_rng(3).integers(0, 256, (*size_hw, 3), np.uint8)
    rule = Resize(mode="stretch", min_dim=0, max_dim=64, frame_hw=(48, 64))
    molded, frame = mold(Photo.of(Image.fromarray(image)), rule, padded=False)
    assert (frame.image_hw, frame.frame_hw, molded.shape) == (size_hw, (48, 64), (48, 64, 3))
    assert np.abs(molded - bilinear(image, (48, 64))).max() <= 2


def test_min_scale_enlarges_unless_the_cap_says_no():
    assert resize_rule((100, 200), Resize(mode="square", min_dim=0, max_dim=1024, min_scale=2)).resized_hw == (200, 400)
    assert resize_rule((100, 800), Resize(mode="square", min_dim=0, max_dim=1024, min_scale=2)).resized_hw == (
        128,
        1024,
    )


@pytest.mark.parametrize(
    ("size_hw", "frame_hw"),
    [((64, 65), (64, 128)), ((1, 1), (64, 64)), ((600, 300), (512, 256)), ((1, 5000), (64, 512))],
)
def test_pad64_rounds_each_side_up(size_hw, frame_hw):
    assert resize_rule(size_hw, Resize(mode="pad64", min_dim=0, max_dim=512)).frame_hw == frame_hw


@pytest.mark.parametrize(
    ("size_hw", "resized_hw"), [((64, 65), (64, 65)), ((600, 300), (512, 256)), ((1, 5000), (1, 512))]
)
def test_fit_limits_the_longer_side_and_pads_nothing(size_hw, resized_hw):
    frame = resize_rule(size_hw, Resize(mode="fit", min_dim=0, max_dim=512))
    assert frame.resized_hw == frame.frame_hw == resized_hw
    assert frame.window == (0, 0, *resized_hw)


def letterbox(frame_hw):
    return Resize(mode="letterbox", min_dim=0, max_dim=max(frame_hw), frame_hw=frame_hw)


@pytest.mark.parametrize(
    ("size_hw", "frame_hw", "resized_hw", "window"),
    [
        ((1080, 1920), (640, 640), (360, 640), (140, 0, 500, 640)),
        ((480, 640), (640, 640), (480, 640), (80, 0, 560, 640)),
        ((50, 40), (640, 640), (640, 512), (0, 64, 640, 576)),
        ((1000, 1000), (384, 640), (384, 384), (0, 128, 384, 512)),
        ((1, 5000), (640, 640), (1, 640), (319, 0, 320, 640)),
        ((427, 640), (640, 640), (427, 640), (106, 0, 533, 640)),
    ],
)
def test_letterbox_by_hand(size_hw, frame_hw, resized_hw, window):
    frame = resize_rule(size_hw, letterbox(frame_hw))
    assert (frame.resized_hw, frame.frame_hw, frame.window) == (resized_hw, frame_hw, window)


@given(SIDES, SIDES, st.integers(1, 40), st.integers(1, 40))
def test_letterbox_is_upstreams(height, width, high, wide):
    """Upstream's formulas: the spare pixels halved, and each half rounded after 0.1 is taken off or added."""
    frame_hw = (32 * high, 32 * wide)
    frame = resize_rule((height, width), letterbox(frame_hw))
    ratio = min(frame_hw[0] / height, frame_hw[1] / width)
    resized = tuple(max(1, round(side * ratio)) for side in (height, width))
    (top, bottom), (left, right) = (
        (round((whole - part) / 2 - 0.1), whole - round((whole - part) / 2 + 0.1))
        for whole, part in zip(frame_hw, resized, strict=True)
    )
    assert frame.resized_hw == resized
    assert frame.window == (top, left, bottom, right)
    assert any(part == whole for part, whole in zip(resized, frame_hw, strict=True))


def test_shares_of_the_image_become_pixels():
    boxes = np.array([[0, 0, 1, 1], [0.25, 0.5, 0.75, 1.5], [-1e30, 0, 1e30, 1]], np.float32)
    assert scale_boxes(boxes, (480, 640)).tolist() == [
        [0, 0, 480, 640],
        [120, 320, 360, 960],
        [-1000000, 0, 1000000, 640],
    ]


@given(SIDES, SIDES, st.sampled_from([MATTERPORT, Resize(mode="pad64", min_dim=128, max_dim=512)]))
def test_the_window_lies_in_the_frame(height, width, resize):
    frame = resize_rule((height, width), resize)
    top, left, bottom, right = frame.window
    assert 0 <= top < bottom <= frame.frame_hw[0] <= resize.max_dim
    assert 0 <= left < right <= frame.frame_hw[1] <= resize.max_dim
    assert (bottom - top, right - left) == frame.resized_hw


@pytest.mark.parametrize("size_hw", [(53, 91), (20, 17), (40, 60), (7, 120)])
def test_resize_is_truncated_bilinear_without_antialiasing(size_hw):
    image = np.random.default_rng(1).integers(0, 256, (40, 61, 3), np.uint8)
    ours = np.asarray(resize_image(Image.fromarray(image), size_hw))
    exact = bilinear(image, size_hw)
    assert ours.dtype == np.uint8
    assert ours.shape == (*size_hw, 3)
    near_integer = np.abs(exact - np.rint(exact)) < 1e-6
    assert np.array_equal(ours[~near_integer], exact.astype(np.uint8)[~near_integer])
    assert np.abs(ours - exact).max() <= 1 + 1e-9


@pytest.mark.parametrize("size_hw", [(53, 91), (20, 17)])
def test_resize_agrees_with_skimage_inside(size_hw):
    image = np.random.default_rng(2).integers(0, 256, (40, 61, 3), np.uint8)
    theirs = skimage.transform.resize(
        image, size_hw, order=1, mode="constant", cval=0, clip=True, preserve_range=True, anti_aliasing=False
    )
    ours = np.asarray(resize_image(Image.fromarray(image), size_hw)).astype(float)
    difference = np.abs(ours - np.floor(theirs + 1e-9))
    assert difference[2:-2, 2:-2].max() <= 1


def test_mold_centres_in_zeros():
    image = np.full((10, 20, 3), 255, np.uint8)
    molded, frame = mold(Photo.of(Image.fromarray(image)), Resize(mode="square", min_dim=0, max_dim=32), padded=True)
    assert frame.window == (11, 6, 21, 26)
    assert molded.sum() == 255 * 10 * 20 * 3
    assert (molded[11:21, 6:26] == 255).all()
    unpadded, _ = mold(Photo.of(Image.fromarray(image)), Resize(mode="square", min_dim=0, max_dim=32), padded=False)
    assert unpadded.shape == (10, 20, 3)


def test_unmold_by_hand():
    frame = resize_rule((480, 640), MATTERPORT)  # window 128..896, 0..1024
    box = (np.array([[128, 0, 896, 1024]]) - [0, 0, 1, 1]) / 1023
    assert unmold_boxes(box.astype(np.float32), frame).tolist() == [[0, 0, 480, 640]]


def mold_boxes(boxes, frame):
    """Return image pixel boxes normalised to the frame: Matterport's formula, the inverse of unmold_boxes."""

    def normalised(box, size_hw):
        return (np.asarray(box, float) - [0, 0, 1, 1]) / (np.array([*size_hw, *size_hw]) - 1)

    top, left, bottom, right = normalised(frame.window, frame.frame_hw)
    size = np.array([bottom - top, right - left] * 2)
    return normalised(boxes, frame.image_hw) * size + [top, left, top, left]


@given(st.data())
def test_unmold_undoes_mold(data):
    height, width = data.draw(st.integers(2, 2000)), data.draw(st.integers(2, 2000))
    frame = resize_rule((height, width), MATTERPORT)
    if min(frame.resized_hw) == 1:
        return
    y1, x1 = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    box = np.array([[y1, x1, data.draw(st.integers(y1 + 1, height)), data.draw(st.integers(x1 + 1, width))]])
    assert np.array_equal(unmold_boxes(mold_boxes(box, frame), frame), box)


def test_a_one_pixel_image_maps_to_itself():
    frame = resize_rule((1, 5000), Resize(mode="square", min_dim=0, max_dim=1024))
    assert unmold_boxes(np.array([[0.4, 0.0, 0.6, 1.0]], np.float32), frame).tolist() == [[0, 0, 1, 5000]]


def test_clip_empties_what_lies_outside():
    boxes = np.array([[-5, -5, 5, 5], [20, 20, 30, 30], [0, 0, 10, 10]])
    assert clip_boxes(boxes, (10, 10)).tolist() == [[0, 0, 5, 5], [10, 10, 10, 10], [0, 0, 10, 10]]


def test_meta_by_hand():
    row = meta(resize_rule((480, 640), MATTERPORT), num_classes=81)
    assert row.shape == (1, 93)
    assert row.dtype == np.float32
    expected = [0, 480, 640, 3, 1024, 1024, 3, 128, 0, 896, 1024, 1.6]
    np.testing.assert_allclose(row[0, :12], expected, rtol=1e-6)
    assert not row[0, 12:].any()


def test_anchors_against_loops():
    spec = AnchorInput(scales=(32, 64), ratios=(0.5, 1, 2), strides=(16, 32))
    frame_hw = (96, 80)
    expected = []
    for scale, stride in zip(spec.scales, spec.strides, strict=True):
        for y in range(0, frame_hw[0], stride):
            for x in range(0, frame_hw[1], stride):
                for ratio in spec.ratios:
                    h, w = scale / ratio**0.5, scale * ratio**0.5
                    y1, x1, y2, x2 = y - h / 2, x - w / 2, y + h / 2, x + w / 2
                    expected.append([y1 / 95, x1 / 79, (y2 - 1) / 95, (x2 - 1) / 79])
    ours = anchors(frame_hw, spec)
    assert ours.shape == (1, len(expected), 4)
    np.testing.assert_allclose(ours[0], expected, rtol=1e-5, atol=1e-6)


def test_matterports_anchor_count_and_cache():
    first = anchors((1024, 1024), AnchorInput())
    assert first.shape == (1, 261888, 4)
    assert anchors((1024, 1024), AnchorInput()) is first
    assert not first.flags.writeable
