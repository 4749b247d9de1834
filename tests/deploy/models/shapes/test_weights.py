"""The published weights keep what the model card says of them."""

import numpy as np
import pytest

from deploy.models.shapes import bundled, coins, dataset, evaluate, network


@pytest.fixture(scope="module")
def held_out():
    return dataset.draw(dataset.HELD_OUT_SEED, 200)


@pytest.mark.campaign
def test_held_out_scenes(held_out):
    model = evaluate.Model(bundled.WEIGHTS, evaluate.EVERY_SCORE)
    figures = evaluate.average_precision(map(model.segment, held_out.images), held_out)
    assert figures["mask_ap50"] >= 0.85, figures
    assert figures["box_ap50"] >= 0.85, figures


@pytest.mark.parametrize("width", [384, *(pytest.param(width, marks=pytest.mark.campaign) for width in (512, 640))])
def test_coins_of_a_real_photograph(width):
    image = coins.photo(width)
    found = evaluate.Model(bundled.WEIGHTS, 0.7).segment(image)
    figures = evaluate.count_coins(found, coins.truth(image.shape[:2]))
    assert figures["found"] >= 23, figures
    assert figures["false"] <= 1, figures
    assert figures["iou"] >= 0.9, figures


@pytest.mark.parametrize(
    "size_hw",
    [(128, 128), *(pytest.param(size, marks=pytest.mark.campaign) for size in [(192, 192), (300, 400), (480, 640)])],
)
def test_a_blank_picture_has_no_objects(size_hw):
    model = evaluate.Model(bundled.WEIGHTS, network.Cutoffs().min_score)
    for grey in (0, 30, 60, 90, 120, 150, 180, 220, 255):
        assert model.segment(np.full((*size_hw, 3), grey, np.uint8)) == (), grey


def test_the_count_can_fail():
    image = coins.photo()
    found = evaluate.Model(bundled.WEIGHTS, 0.7).segment(image)
    shifted = coins.truth(image.shape[:2])[:, ::-1, ::-1]
    assert evaluate.count_coins(found, shifted)["found"] < 12
