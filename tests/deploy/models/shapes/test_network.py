"""The network's contract: shapes, order, padding rows, batches, nothing found."""

import numpy as np
import pytest
import tensorflow as tf

from deploy.models.shapes import boxes, bundled, network, scenes, targets
from handler.model import mold

SETTINGS = bundled.SETTINGS


@pytest.fixture(scope="module")
def model():
    built = network.join(network.parts(), network.Cutoffs(min_score=0.05))
    built.load_weights(bundled.WEIGHTS)
    return built


def inputs(images):
    height, width = images.shape[1:3]
    frame = mold.resize_rule((height, width), SETTINGS.resize)
    molded = images.astype(np.float32) - np.array(SETTINGS.mean, np.float32)
    meta = np.repeat(mold.meta(frame, network.NUM_CLASSES), len(images), 0)
    return [molded, meta, np.repeat(mold.anchors(frame.frame_hw, SETTINGS.anchors), len(images), 0)]


def run(model, images):
    return {name: tensor.numpy() for name, tensor in model(inputs(images), training=False).items()}


@pytest.mark.parametrize("size_hw", [(64, 64), (192, 192), (128, 320)])
def test_rows_are_sorted_padded_and_inside(model, size_hw):
    scene = np.zeros((1, *size_hw, 3), np.uint8)
    height, width = min(192, size_hw[0]), min(192, size_hw[1])
    scene[0, :height, :width] = scenes.draw(3).image[:height, :width]
    found = run(model, scene)
    rows, masks = found["mrcnn_detection"], found["mrcnn_mask"]
    assert rows.shape == (1, 64, 6)
    assert masks.shape == (1, 64, 28, 28, network.NUM_CLASSES)
    real = rows[0, :, 4] > 0
    assert (np.diff(real.astype(int)) <= 0).all()
    assert not rows[0, ~real].any()
    assert not masks[0, ~real].any()
    assert (np.diff(rows[0, real, 5]) <= 0).all()
    assert ((masks >= 0) & (masks <= 1)).all()
    edge = 1 / (min(size_hw) - 1)
    assert ((rows[0, :, :4] >= -edge) & (rows[0, :, :4] <= 1 + edge)).all()


def test_nothing_found_is_rows_of_zeros():
    unreachable = network.join(network.parts(), network.Cutoffs(min_score=1.1))
    found = run(unreachable, scenes.draw(11).image[None])
    assert found["mrcnn_detection"].shape == (1, 64, 6)
    assert found["mrcnn_mask"].shape == (1, 64, 28, 28, 4)
    assert not found["mrcnn_detection"].any()
    assert not found["mrcnn_mask"].any()


def test_a_batch_answers_as_its_images_alone(model):
    images = np.stack([scenes.draw(seed).image for seed in (11, 12)])
    together = run(model, images)
    for index in range(2):
        alone = run(model, images[index : index + 1])
        for name, tensor in alone.items():
            np.testing.assert_allclose(together[name][index], tensor[0], atol=2e-4)


def test_detections_stay_in_the_meta_window(model):
    image = scenes.draw(11).image[None]
    tensors = inputs(image)
    tensors[1][0, 7:11] = (40, 30, 150, 160)
    rows = model(tensors, training=False)["mrcnn_detection"].numpy()[0]
    rows = rows[rows[:, 4] > 0]
    assert len(rows)
    assert (rows[:, :4] >= np.array([40, 30, 0, 0]) / 191 - 1e-5).all()
    assert (rows[:, :4] <= np.array([191, 191, 149, 159]) / 191 + 1e-5).all()


def test_the_weights_are_small_and_the_labels_those_of_the_scenes():
    assert ("background", *SETTINGS.labels) == scenes.LABELS
    assert bundled.WEIGHTS.stat().st_size <= 10 << 20


def test_mask_targets_sample_the_truth_at_bin_centres():
    ids = scenes.draw(5).ids
    regions = np.array([[[10, 20, 66, 104], [0, 0, 192, 192]]], np.float32)
    got = targets.mask_targets(tf.constant(ids[None]), tf.constant(regions), tf.constant([[1, 2]])).numpy()
    for box, wanted, mask in zip(regions[0], (1, 2), got[0], strict=True):
        yy = np.floor(box[0] + (box[2] - box[0]) * (np.arange(28) + 0.5) / 28).astype(int)
        xx = np.floor(box[1] + (box[3] - box[1]) * (np.arange(28) + 0.5) / 28).astype(int)
        np.testing.assert_array_equal(mask, ids[np.ix_(yy, xx)] == wanted)


def test_every_object_gets_an_anchor():
    truth = np.zeros((1, 3, 4), np.float32)
    truth[0, :2] = [[20, 20, 60, 70], [100, 90, 113, 101]]
    anchors = mold.anchors((192, 192), SETTINGS.anchors)[0]
    pixels = boxes.to_pixels(tf.constant(anchors), tf.constant([192, 192]))
    positive, counted, deltas = targets.anchor_targets(pixels, tf.constant(truth), tf.constant([[True, True, False]]))
    chosen = np.flatnonzero(positive[0])
    restored = boxes.decode(pixels, deltas[0]).numpy()[chosen]
    distances = np.abs(restored[:, None] - truth[0, None, :2]).max(-1)
    assert (distances.min(1) < 1e-2).all()
    assert set(distances.argmin(1)) == {0, 1}
    assert counted.numpy().sum() > 0.9 * anchors.shape[0]
