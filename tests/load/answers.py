"""What must come back: an answer of the interface, about the photograph that was sent, whose masks decode."""

import json
import warnings

import numpy as np
from pycocotools import mask as coco

DETAIL = 200  # characters of an error that are repeated


class AnswerError(Exception):
    """The answer is none that a client could use; the text says what it must be and what came."""


def none_came(error):
    """Raise AnswerError: an error took the place of an answer."""
    raise AnswerError(f"an answer must come, got {type(error).__name__}: {error}")


def check(status, body, photo, mask):
    """Raise AnswerError unless ``body`` answers the photograph with instances whose masks are as ``mask`` asks for."""
    if status != 200:
        raise AnswerError(f"the status must be 200, got {status}{_detail(body)}")
    try:
        answer = json.loads(body)
        width, height = photo.size_wh
        size = answer["image"]
        if (size["width"], size["height"]) != photo.size_wh:
            raise AnswerError(f"the image must be {width} x {height}, got {size['width']} x {size['height']}")
        for instance in answer["instances"]:
            _check_instance(instance, photo.size_wh)
            MASKS[mask](instance, photo.size_wh)
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise AnswerError(
            f"the body must be an answer of the interface, got {type(error).__name__}: {error}"
        ) from error


def _detail(body):
    try:
        return f": {json.loads(body)['detail'][:DETAIL]}"
    except (ValueError, KeyError, TypeError):
        return ""


def _check_instance(instance, size_wh):
    box, score = instance["box"], instance["score"]
    right, bottom = box["x"] + box["width"], box["y"] + box["height"]
    if not (0 <= box["x"] < right <= size_wh[0] and 0 <= box["y"] < bottom <= size_wh[1]):
        raise AnswerError(f"a box must lie within {size_wh[0]} x {size_wh[1]}, got {box}")
    if not 0 <= score <= 1:
        raise AnswerError(f"a score must be in 0..1, got {score}")
    if not 0 <= instance["area"] <= box["width"] * box["height"]:
        raise AnswerError(f"an area must be within its box, got {instance['area']} in {box}")


def _check_rle(instance, size_wh):
    """The runs are counted, which is quick; drawing masks of twelve megapixels would take the time that is measured."""
    mask = instance["mask"]
    if mask["size"] != [size_wh[1], size_wh[0]]:
        raise AnswerError(f"a mask must be of {[size_wh[1], size_wh[0]]}, got {mask['size']}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # pycocotools 2 predates NumPy 2's copy keyword
        area, (x, y, width, height) = int(coco.area(mask)), coco.toBbox(mask)
    if area != instance["area"]:
        raise AnswerError(f"a mask must have its area, {instance['area']}, got {area}")
    box = instance["box"]
    inside = box["x"] <= x and box["y"] <= y and x + width <= box["x"] + box["width"]
    if area and not (inside and y + height <= box["y"] + box["height"]):
        raise AnswerError(f"a mask must lie within its box, {box}, got {[x, y, width, height]}")


def _check_polygon(instance, size_wh):
    area = length = 0.0
    for flat in instance["mask"]["polygons"]:
        ring = np.array(flat, float).reshape(-1, 2)
        if len(ring) < 3 or ring.min() < 0 or (ring > size_wh).any():
            raise AnswerError(
                f"a ring must be three points or more within {size_wh[0]} x {size_wh[1]}, got {flat[:8]} ..."
            )
        following = np.roll(ring, -1, axis=0)
        area += (ring[:, 0] * following[:, 1] - ring[:, 1] * following[:, 0]).sum() / 2  # holes run the other way
        length += np.hypot(*(following - ring).T).sum()
    if abs(area - instance["area"]) > length + 1:  # the outline passes between the pixels that are counted
        raise AnswerError(f"outlines must enclose about {instance['area']} pixels, got {area:.0f}")


def _check_none(instance, _):
    if instance["mask"] is not None:
        raise AnswerError(f"a mask must be null, got {str(instance['mask'])[:DETAIL]}")


MASKS = {"rle": _check_rle, "polygon": _check_polygon, "none": _check_none}
