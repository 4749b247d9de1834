"""The frame made in the graph equals the one handler.model.mold makes for graphs that ask the client for it."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from deploy.export import frame
from handler.image.decode import Photo
from handler.model import mold
from handler.model.contract import AnchorInput, Resize

RULES = [Resize(mode="pad64", min_dim=0, max_dim=1024), Resize(mode="square", min_dim=0, max_dim=256)]
SIZES = [(192, 192), (151, 200), (1, 77), (64, 256), (33, 31)]


@pytest.mark.parametrize("size_hw", SIZES)
@pytest.mark.parametrize("resize", RULES, ids=lambda rule: rule.mode)
def test_graph_and_client_make_the_same_inputs(resize, size_hw):
    image = np.random.default_rng(0).integers(0, 256, (*size_hw, 3), np.uint8)
    molded, there = mold.mold(Photo.of(Image.fromarray(image)), resize, padded=True)
    frame_hw = frame.frame_size(tf.constant(size_hw), resize)
    assert tuple(frame_hw.numpy()) == there.frame_hw
    np.testing.assert_array_equal(frame.pad(tf.constant(image[None], tf.float32), frame_hw)[0], molded)
    np.testing.assert_array_equal(frame.meta(tf.constant(size_hw), frame_hw, 4), mold.meta(there, 4))


@pytest.mark.parametrize("size_hw", SIZES)
def test_a_letterbox_is_padded_with_one_grey_at_the_same_window(size_hw):
    resize = Resize(mode="letterbox", min_dim=0, max_dim=320, frame_hw=(192, 320))
    image = np.random.default_rng(0).integers(0, 256, (*size_hw, 3), np.uint8)
    molded, there = mold.mold(Photo.of(Image.fromarray(image)), resize, padded=False)
    framed = frame.pad(tf.constant(molded[None]), tf.constant(there.frame_hw), rest=114)[0].numpy().copy()
    top, left, bottom, right = there.window
    np.testing.assert_array_equal(framed[top:bottom, left:right], molded)
    framed[top:bottom, left:right] = 114
    assert framed.shape == (192, 320, 3)
    assert (framed == 114).all()


@pytest.mark.parametrize("frame_hw", [(64, 64), (192, 320), (1024, 1024)])
@pytest.mark.parametrize(
    "spec", [AnchorInput(), AnchorInput(scales=(12, 24, 48, 96, 192))], ids=["upstream", "bundled"]
)
def test_graph_and_client_make_the_same_anchors(frame_hw, spec):
    np.testing.assert_array_equal(frame.anchors(tf.constant(frame_hw), spec), mold.anchors(frame_hw, spec))
