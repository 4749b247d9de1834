import cv2
import numpy as np
import pytest
from pycocotools import mask as coco
from scipy.ndimage import gaussian_filter, label

from handler.masks.polygons import area, border, simplify, trace
from tests.support.readers import coco_decode, fill, iou


def levels(text):
    """Return +1 for # and -1 for anything else, a row a line."""
    return np.array([[1.0 if cell == "#" else -1.0 for cell in line] for line in text.split()], np.float32)


def flat(rings):
    return [ring.ravel().tolist() for ring in rings]


RING = levels("....... .#####. .#...#. .#...#. .#####. .......")
TWO = levels("##..... ##..... ....... ....### ....###")
NESTED = levels("####### #.....# #.###.# #.#.#.# #.###.# #.....# #######")


@pytest.mark.parametrize("field", [RING, TWO, NESTED, levels("#"), levels("#.# .#. #.#")])
def test_a_pixel_is_inside_exactly_where_its_value_is(field):
    rings = trace(field, (0, 0, *field.shape))
    assert np.array_equal(fill(flat(rings), field.shape), field >= 0)


def test_holes_run_the_other_way_and_follow_their_ring():
    assert [np.sign(area(ring)) for ring in trace(RING, (0, 0, *RING.shape))] == [1, -1]
    assert [np.sign(area(ring)) for ring in trace(NESTED, (0, 0, *NESTED.shape))] == [1, -1, 1, -1]


def test_every_part_has_a_ring():
    assert len(trace(TWO, (0, 0, *TWO.shape))) == label(TWO > 0)[1] == 2


def test_what_reaches_the_edge_of_its_box_ends_there():
    (ring,) = trace(np.ones((4, 6), np.float32), (10, 20, 14, 26))
    assert (ring.min(axis=0).tolist(), ring.max(axis=0).tolist()) == ([20, 10], [26, 14])
    assert area(ring) == pytest.approx(24, abs=0.6)  # the corners are cut


def test_the_outline_runs_between_pixels_where_the_field_crosses_zero():
    field = np.repeat(np.array([[0.75, 0.25, -0.25, -0.75]], np.float32), 9, axis=0)
    (ring,) = trace(field, (0, 0, 9, 4))
    assert ring[:, 0].max() == pytest.approx(2.0)  # centres at 1.5 and 2.5, equal distances from zero


def test_cells_coarser_than_pixels_are_scaled():
    (ring,) = trace(RING, (0, 0, 60, 70))[:1]
    assert (ring.min(axis=0).tolist(), ring.max(axis=0).tolist()) == ([10, 10], [60, 50])


@pytest.mark.parametrize("value", [0.0, -1.0])
def test_a_plain_field(value):
    assert len(trace(np.full((5, 5), value, np.float32), (0, 0, 5, 5))) == (1 if value == 0 else 0)


def test_a_speck_that_encloses_nothing_is_no_part():
    field = np.full((5, 5), -1.0, np.float32)
    field[2, 2] = 1e-9
    assert trace(field, (0, 0, 5, 5)) == []


def filled_parts(bits, offset_xy):
    """Return the 8-connected parts of a mask, their holes filled, as OpenCV finds and fills them."""
    contours, _ = cv2.findContours(bits.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE, offset=offset_xy)
    return [cv2_fill(contour) for contour in contours]


def cv2_fill(ring):
    canvas = np.zeros((60, 60), np.uint8)
    cv2.fillPoly(canvas, [np.asarray(ring, np.int32)], 1)
    return canvas


def smooth_bits(seed):
    rng = np.random.default_rng(seed)
    field = gaussian_filter(rng.random(rng.integers(1, 40, 2)), rng.uniform(0, 4))
    return field >= np.quantile(field, rng.uniform(0.2, 0.9))


SPECKS = ["#", "##", "# #", "### ..# .#.", "#. .#", ".# #.", "#.# .#. #.#", "#... .#.. ..#. ...#", "##### #...# #####"]
LARGE_ENOUGH = [levels(text) >= 0 for text in SPECKS]


@pytest.mark.parametrize("bits", [*LARGE_ENOUGH, *map(smooth_bits, range(60))])
def test_a_border_filled_by_opencv_is_the_largest_part(bits):
    (height, width), (x, y) = bits.shape, (5, 3)
    ring = border(np.where(bits, 1.0, -1.0), (y, x, y + height, x + width))
    assert len(ring) >= 3
    parts = filled_parts(bits, (x, y))
    assert any(np.array_equal(cv2_fill(ring), part) for part in parts)


def test_a_border_of_nothing():
    assert border(np.full((3, 4), -1.0), (0, 0, 3, 4)) is None


def test_a_border_in_coarse_cells_is_of_the_same_size():
    y, x = np.mgrid[:100, :100] + 0.5
    ring = border(30 - np.hypot(y - 50, x - 50), (0, 0, 1000, 1000))
    disk = np.hypot(*np.mgrid[:1000, :1000] - 499.5) <= 300
    drawn = np.zeros((1000, 1000), np.uint8)
    cv2.fillPoly(drawn, [ring.astype(np.int32)], 1)
    assert iou(drawn, disk) >= 0.96


def test_simplify_keeps_the_shape_and_drops_most_points():
    angle = np.linspace(0, 2 * np.pi, 2000, endpoint=False)
    circle = 100 + 50 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    simple = simplify(circle)
    assert 3 <= len(simple) < 150
    assert iou(fill(flat([simple]), (200, 200)), fill(flat([circle]), (200, 200))) > 0.995


def test_simplify_keeps_corners():
    square = np.array([[x, 0] for x in range(10)] + [[10, y] for y in range(10)] + [[x, 10] for x in range(10, 0, -1)]
                      + [[0, y] for y in range(10, 0, -1)], float)  # fmt: skip
    assert sorted(map(tuple, simplify(square))) == [(0, 0), (0, 10), (10, 0), (10, 10)]


def test_pycocotools_reads_a_ring_as_the_same_pixels():
    disk = np.hypot(*np.mgrid[-30:30, -40:40] + 0.5) - 25.3
    rings = trace(-disk.astype(np.float32), (0, 0, 60, 80))
    read = coco_decode(coco.merge(coco.frPyObjects(flat(rings), 60, 80)))
    assert iou(read, disk <= 0) >= 0.98
