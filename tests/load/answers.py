"""What is wrong with an answer: its status, its form, its numbers, or its masks."""

import json
import warnings

import numpy as np
from pycocotools import mask as coco


class AnswerError(Exception):
    """The answer is wrong; the text says what was expected, then what came."""


def expect(holds, expected, got):
    if not holds:
        raise AnswerError(f"{expected}, got {got}")


def check(status, body, size_wh, mask):
    """Raise AnswerError unless the body answers a photograph of that size with masks in that encoding."""
    expect(status == 200, "the status must be 200", status)
    try:
        answer = json.loads(body)
        found_wh = answer["image"]["width"], answer["image"]["height"]
        expect(found_wh == size_wh, f"width and height must be {size_wh}", found_wh)
        for instance in answer["instances"]:
            check_numbers(instance, size_wh)
            MASKS[mask](instance, size_wh)
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise AnswerError(f"the body must be an answer, got {type(error).__name__}: {error}") from error


def check_numbers(instance, size_wh):
    box, area = instance["box"], instance["area"]
    right, bottom = box["x"] + box["width"], box["y"] + box["height"]
    inside = 0 <= box["x"] < right <= size_wh[0] and 0 <= box["y"] < bottom <= size_wh[1]
    expect(inside, f"a box must be within {size_wh}", box)
    expect(0 <= instance["score"] <= 1, "a score must be in 0..1", instance["score"])
    expect(0 <= area <= box["width"] * box["height"], f"an area must be within its box {box}", area)


def check_rle(instance, size_wh):
    """Compare area and bounds of the runs; to draw masks of 12 megapixels takes longer than the function."""
    mask, box = instance["mask"], instance["box"]
    expect(mask["size"] == [*size_wh[::-1]], f"a mask must have the size {[*size_wh[::-1]]}", mask["size"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # pycocotools 2 predates the copy keyword of NumPy 2
        area, (x, y, width, height) = int(coco.area(mask)), coco.toBbox(mask)
    expect(area == instance["area"], f"a mask must have the area {instance['area']}", area)
    across = box["x"] <= x and x + width <= box["x"] + box["width"]
    inside = across and box["y"] <= y and y + height <= box["y"] + box["height"]
    expect(inside or not area, f"a mask must be within its box {box}", [x, y, width, height])


def check_polygon(instance, size_wh):
    area = length = 0.0
    for flat in instance["mask"]["polygons"]:
        ring = np.array(flat, float).reshape(-1, 2)
        within = len(ring) >= 3 and ring.min() >= 0 and (ring <= size_wh).all()
        expect(within, f"a ring must have three points or more within {size_wh}", f"{flat[:8]} ...")
        after = np.roll(ring, -1, axis=0)
        area += (ring[:, 0] * after[:, 1] - ring[:, 1] * after[:, 0]).sum() / 2  # holes run the other way
        length += np.hypot(*(after - ring).T).sum()
    # the outline passes between the pixels that the area counts
    expect(abs(area - instance["area"]) <= length + 1, f"rings must enclose about {instance['area']} pixels", area)


def check_none(instance, _):
    expect(instance["mask"] is None, "a mask must be null", str(instance["mask"])[:200])


MASKS = {"rle": check_rle, "polygon": check_polygon, "none": check_none}
