"""The measuring, on answers made by hand, and the bytes of a request, counted from shapes."""

import numpy as np
import pytest
from pycocotools import mask as rle

from deploy.export.report.compare import compare, saturated_share, summarise
from deploy.export.report.segment import Segmentation
from deploy.export.report.transport import measure_transport
from handler.masks.schemas import RleMask
from handler.pipeline import Instance

SIZE = 40


def segmentation(*objects, masks=None):
    """A segmentation with squares: class, score, top, left, side in pixels of an image of 40 x 40."""
    instances, rows = [], []
    for class_id, score, top, left, side in objects:
        bits = np.zeros((SIZE, SIZE), np.uint8, order="F")
        bits[top : top + side, left : left + side] = 1
        counts = rle.encode(bits)["counts"].decode()
        box = (top, left, top + side, left + side)
        mask = RleMask(size=(SIZE, SIZE), counts=counts)
        instances.append(Instance(class_id, None, score, box, side * side, mask))
        rows.append([*(edge / SIZE for edge in box), class_id, score])
    probabilities = np.zeros((len(rows), 2, 2), np.float32) if masks is None else np.array(masks, np.float32)
    return Segmentation(np.array(rows, np.float32).reshape(-1, 6), probabilities, tuple(instances), 0, 0)


def test_matches_losses_and_classes_worked_by_hand():
    reference = segmentation((1, 0.9, 0, 0, 20), (2, 0.8, 20, 20, 10), (1, 0.7, 30, 0, 8))
    other = segmentation((3, 0.85, 20, 20, 10), (1, 0.65, 0, 0, 19), (1, 0.6, 5, 30, 6))
    row = summarise([compare(reference, other)])
    assert (row.instances, row.lost, row.extra, row.class_changes) == (3, 2, 2, 1)
    assert row.iou_mean == row.iou_mean_large == row.iou_min_large == pytest.approx(361 / 400)
    assert row.box_difference == pytest.approx(1 / SIZE)
    assert row.score_difference == pytest.approx(0.25, abs=1e-6)


def test_small_masks_count_in_the_mean_alone():
    reference, other = segmentation((1, 0.9, 0, 0, 4)), segmentation((1, 0.9, 0, 0, 3))
    row = summarise([compare(reference, other)])
    assert row.iou_mean == pytest.approx(9 / 16)
    assert row.iou_mean_large is row.iou_min_large is None


@pytest.mark.parametrize(("before", "after", "lost", "extra"), [(0, 0, 0, 0), (1, 0, 1, 0), (0, 1, 0, 1)])
def test_nothing_found_is_no_difference_of_masks(before, after, lost, extra):
    square = (1, 0.9, 0, 0, 20)
    row = summarise([compare(segmentation(*[square] * before), segmentation(*[square] * after))])
    assert (row.lost, row.extra, row.iou_mean, row.box_difference) == (lost, extra, None, 0.0)


def test_the_saturated_share():
    at_limit, above = 127 / 255, 128 / 255
    one = segmentation((1, 0.9, 0, 0, 9), masks=[[[0.0, at_limit], [above, 1.0]]])
    none = segmentation()
    assert saturated_share([one, none]) == 0.5
    assert saturated_share([none]) is None
    assert saturated_share([]) is None


def test_bytes_of_a_request_for_coco(tmp_path):
    measured = measure_transport(tmp_path)
    pixels, anchors, meta = 1024 * 1024 * 3, 261_888 * 16, 4 * (12 + 81)
    masks, rows = 100 * 28 * 28, 100 * 6 * 4
    tensors = {
        "float32": (4 * pixels + anchors + meta, 4 * 81 * masks + rows),
        "int8-cast": (pixels + anchors + meta, 81 * masks + rows),
        "int8": (pixels, masks + rows),
        "int8, 1024 x 576": (1024 * 576 * 3, masks + rows),
    }
    for name, (up, down) in tensors.items():
        assert 0 <= measured[name].up_bytes - up < 350
        assert 0 <= measured[name].down_bytes - down < 250
        assert measured[name].detections == 100
    assert measured["int8-cast, probabilities up to 1"].down_bytes >= measured["int8-cast"].down_bytes
