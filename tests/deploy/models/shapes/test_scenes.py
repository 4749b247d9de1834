"""Scenes are judged by geometry worked out apart from the drawing: areas, tight boxes, agreement of image and mask."""

import numpy as np
import pytest

from deploy.models.shapes import dataset, scenes
from tests.support import counts

SEEDS = range(counts.pick(10, 40))


def test_a_seed_draws_the_same_scene_again():
    first, again = scenes.draw(7), scenes.draw(7)
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.ids, again.ids)
    assert (first.image != scenes.draw(8).image).any()


@pytest.mark.counted
@pytest.mark.parametrize("seed", SEEDS)
def test_every_instance_is_visible_and_has_a_class(seed):
    scene = scenes.draw(seed)
    areas = np.bincount(scene.ids.ravel(), minlength=scenes.MAX_INSTANCES + 1)[1:]
    assert ((areas > 0) == (scene.classes > 0)).all()
    assert (areas[areas > 0] >= scenes.MIN_AREA_PX).all()
    assert scene.classes.max(initial=0) < len(scenes.LABELS)


@pytest.mark.parametrize(
    ("kind", "area", "corner_distance"),
    [(1, np.pi, 1.0), (2, np.pi, 0.886 * np.sqrt(2)), (3, 1.45**2 * 3 * np.sqrt(3) / 4, 1.45)],
)
def test_distance_fields_enclose_the_area_of_their_shape(kind, area, corner_distance):
    yy, xx = np.mgrid[-100:101, -100:101].astype(np.float32)
    ratios, reaches = [], []
    for seed in range(30):
        inside = scenes.distance_field(np.random.default_rng(seed), kind, yy, xx, 40.0) < 0
        ratios.append(inside.sum() / (area * 40**2))
        reaches.append(np.hypot(yy[inside], xx[inside]).max() / (corner_distance * 40))
    assert np.mean(ratios) == pytest.approx(1, abs=0.04)
    assert np.mean(reaches) == pytest.approx(1, abs=0.08)


def test_the_mask_is_where_the_object_was_painted():
    rng = np.random.default_rng(0)
    canvas = scenes.Canvas(np.zeros((96, 96, 3), np.float32), np.zeros((96, 96), np.uint8))
    flat = scenes.Look(np.full(3, 200, np.float32), 0, 0.1, 0, 0, 0, 0.1, 0, 0, 0)
    assert scenes.paint(rng, canvas, 1, (48, 48, 20), flat)
    np.testing.assert_array_equal(canvas.ids > 0, canvas.image[..., 0] > 100)


def test_an_object_that_would_hide_another_is_not_painted():
    rng = np.random.default_rng(0)
    canvas = scenes.Canvas(np.zeros((96, 96, 3), np.float32), np.zeros((96, 96), np.uint8))
    style = scenes.look(rng, canvas.image)
    assert scenes.paint(rng, canvas, 1, (48, 48, 20), style)
    before = canvas.ids.copy()
    assert not scenes.paint(rng, canvas, 2, (48, 50, 22), style)
    np.testing.assert_array_equal(canvas.ids, before)


@pytest.mark.counted
@pytest.mark.parametrize("seed", SEEDS)
def test_boxes_are_tight(seed):
    scene = scenes.draw(seed)
    boxes = scenes.boxes_of(scene.ids, scenes.MAX_INSTANCES)
    for row, (y1, x1, y2, x2) in enumerate(boxes.astype(int)):
        yy, xx = np.nonzero(scene.ids == row + 1)
        expected = (yy.min(), xx.min(), yy.max() + 1, xx.max() + 1) if len(yy) else (0, 0, 0, 0)
        assert (y1, x1, y2, x2) == expected


@pytest.fixture(scope="module")
def batch():
    drawn = [scenes.draw(seed) for seed in range(8)]
    return dataset.Dataset(
        np.stack([scene.image for scene in drawn]),
        np.stack([scene.ids for scene in drawn]),
        np.stack([scene.classes for scene in drawn]),
        np.stack([scenes.boxes_of(scene.ids, scenes.MAX_INSTANCES) for scene in drawn]),
    )


def test_augmentation_moves_image_mask_and_boxes_together(batch):
    rng, turned = np.random.default_rng(0), 0
    for _ in range(40):
        image, ids, classes, boxes = dataset.augment(rng, batch, 1)
        np.testing.assert_array_equal(boxes, scenes.boxes_of(ids, scenes.MAX_INSTANCES))
        assert image.shape == (192, 192, 3)
        assert image.dtype == np.uint8
        np.testing.assert_array_equal(classes, batch.classes[1])
        turned += bool((ids != batch.ids[1]).any())
    assert turned > 20


def test_a_frame_is_black_and_leaves_every_object_half_of_itself(batch):
    rng, framed = np.random.default_rng(0), 0
    for index in range(40):
        before = dataset.augment(rng, batch, index % 8)
        image, ids, classes, boxes = dataset.frame(rng, before)
        outside = (image != before[0]).any(-1)
        framed += bool(outside.any())
        assert not image[outside].any()
        assert not ids[outside].any()
        np.testing.assert_array_equal(boxes, scenes.boxes_of(ids, scenes.MAX_INSTANCES))
        for row in np.flatnonzero(classes):
            assert 2 * (ids == row + 1).sum() >= (before[1] == row + 1).sum()
    assert framed > 10


def test_an_empty_scene_has_nothing_to_find(batch):
    rng = np.random.default_rng(0)
    sample = dataset.augment(rng, batch, 1)
    pictures = []
    for _ in range(10):
        image, *truth = dataset.empty(rng, sample)
        assert (image.shape, image.dtype) == (sample[0].shape, np.dtype(np.uint8))
        assert [(part.shape, part.dtype) for part in truth] == [(part.shape, part.dtype) for part in sample[1:]]
        assert not any(part.any() for part in truth)
        pictures.append(image.reshape(-1, 3).std(0).max())
    assert min(pictures) == 0 < max(pictures)


def test_scenes_are_drawn_once_and_read_again(tmp_path):
    drawn = dataset.load_or_draw(tmp_path / "scenes.npz", 3, 4, 64)
    kept = dataset.load_or_draw(tmp_path / "scenes.npz", 999, 4, 64)
    np.testing.assert_array_equal(drawn.images, kept.images)
    np.testing.assert_array_equal(drawn.images[2], scenes.draw(5, 64).image)
