import numpy as np
import pytest
from pycocotools import mask as coco
from scipy.ndimage import label

from handler.masks.polygons import area, simplify, trace
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
