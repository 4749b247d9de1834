"""YOLO's own way from a photograph to masks, written out in NumPy and OpenCV as published. No code of the project.

The order is that of the published prediction: letterbox, network, suppression by class with offsets, masks of
coefficients x prototypes through a sigmoid, cut on the grid of the prototypes, enlarged to the frame, a threshold of
0.5, the padding cut off, and the masks resized to the photograph.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from scipy.special import expit


@dataclass
class Found:
    """Detections by falling score: boxes [n, 4] (x1, y1, x2, y2, pixels of the photograph), masks bool [n, h, w]."""

    boxes: np.ndarray
    scores: np.ndarray
    classes: np.ndarray
    masks: np.ndarray


def letterbox(image, frame_hw):
    """Return the image uint8 in the frame, on grey 114."""
    height, width = image.shape[:2]
    ratio = min(frame_hw[0] / height, frame_hw[1] / width)
    new_h, new_w = round(height * ratio), round(width * ratio)
    if (new_h, new_w) != (height, width):
        image = cv2.resize(image, (new_w, new_h), interpolation=cv2.INTER_LINEAR)
    spare_y, spare_x = (frame_hw[0] - new_h) / 2, (frame_hw[1] - new_w) / 2
    top, bottom = round(spare_y - 0.1), round(spare_y + 0.1)
    left, right = round(spare_x - 0.1), round(spare_x + 0.1)
    return cv2.copyMakeBorder(image, top, bottom, left, right, cv2.BORDER_CONSTANT, value=(114, 114, 114))


def predict(run, image, network, *, confidence=0.25, iou=0.7, most=300, native=False):
    """Return what upstream finds in an RGB image. ``run``: images float32 [1, H, W, 3] -> head and prototypes.

    ``network`` says layouts and units. ``native``: masks are cut at the box itself, in pixels of the photograph.
    """
    frame_hw = network.frame_hw
    head, prototypes = run(letterbox(image, frame_hw)[None].astype(np.float32) / 255)
    prototypes = prototypes[0] if network.channels == "first" else prototypes[0].transpose(2, 0, 1)
    unit = np.array([frame_hw[1], frame_hw[0]] * 2, np.float32) if network.boxes == "shares" else 1
    if network.form == "end-to-end":
        rows = head[0][head[0][:, 4] > confidence][:most]
        boxes, scores, classes, coefficients = rows[:, :4] * unit, rows[:, 4], rows[:, 5].astype(int), rows[:, 6:]
    else:
        rows = head[0].T if network.form == "raw" else head[0]
        candidates = candidate_boxes(rows, len(prototypes), unit, confidence)
        boxes, scores, classes, coefficients = suppress(candidates, iou, most)
    paint = native_mask if native else default_mask
    values = (probabilities(one, prototypes) for one in coefficients)
    masks = [paint(one, box, frame_hw, image.shape[:2]) for one, box in zip(values, boxes, strict=True)]
    return Found(scale_boxes(boxes, frame_hw, image.shape[:2]), scores, classes, np.array(masks, bool))


def candidate_boxes(rows, depth, unit, confidence):
    """Return boxes, scores, classes and coefficients of a raw head whose best score is high enough."""
    rows = rows[rows[:, 4:-depth].max(1) > confidence]
    x, y, w, h = (rows[:, :4] * unit).T
    boxes = np.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], 1)
    classes = rows[:, 4:-depth]
    return boxes, classes.max(1, initial=0), classes.argmax(1), rows[:, -depth:]


def suppress(candidates, iou, most):
    """Return those that stay: of two of one class that overlap too much, the better one, the best first."""
    boxes, scores, classes, _ = candidates
    apart = boxes + (classes * 7680).astype(np.float32)[:, None]
    kept, order = [], list(np.argsort(-scores, kind="stable"))
    while order and len(kept) < most:
        kept.append(order[0])
        order = [one for one in order[1:] if overlap(apart[kept[-1]], apart[one]) <= iou]
    return tuple(one[kept] for one in candidates)


def overlap(one, other):
    """Return the IoU of two boxes."""
    width = max(0, min(one[2], other[2]) - max(one[0], other[0]))
    height = max(0, min(one[3], other[3]) - max(one[1], other[1]))
    both = width * height
    return both / ((one[2] - one[0]) * (one[3] - one[1]) + (other[2] - other[0]) * (other[3] - other[1]) - both)


def probabilities(coefficients, prototypes):
    """Return the mask [h, w] on the grid of the prototypes [m, h, w]."""
    return expit(np.tensordot(coefficients, prototypes, 1))


def cut(values, box):
    """Return values [h, w], zero where the index of a cell is not within the box x1, y1, x2, y2."""
    y, x = np.mgrid[: values.shape[0], : values.shape[1]]
    return values * ((x >= box[0]) & (x < box[2]) & (y >= box[1]) & (y < box[3]))


def default_mask(values, box, frame_hw, image_hw):
    """Return one mask bool [h, w] of the photograph from its probabilities, by upstream's default."""
    ratio = np.array([values.shape[1] / frame_hw[1], values.shape[0] / frame_hw[0]] * 2)
    small = cut(values, box * ratio).astype(np.float32)
    framed = (cv2.resize(small, frame_hw[::-1], interpolation=cv2.INTER_LINEAR) > 0.5).astype(np.uint8)
    return cv2.resize(unpad(framed, image_hw), image_hw[::-1], interpolation=cv2.INTER_LINEAR) > 0


def native_mask(values, box, frame_hw, image_hw):
    """Return the same as with retina_masks: resized to the photograph first, then cut at the box and compared."""
    small = unpad(values.astype(np.float32), image_hw)
    whole = cv2.resize(small, image_hw[::-1], interpolation=cv2.INTER_LINEAR)
    return cut(whole, scale_boxes(box[None], frame_hw, image_hw)[0]) > 0.5


def unpad(values, image_hw):
    """Return values of a whole frame, at whatever scale, without the padding of a photograph."""
    height, width = values.shape
    gain = min(height / image_hw[0], width / image_hw[1])
    pad_x, pad_y = (width - image_hw[1] * gain) / 2, (height - image_hw[0] * gain) / 2
    return values[int(pad_y) : int(height - pad_y), int(pad_x) : int(width - pad_x)]


def scale_boxes(boxes, frame_hw, image_hw):
    """Return boxes of the frame in pixels of the photograph, cut to it."""
    gain = min(frame_hw[0] / image_hw[0], frame_hw[1] / image_hw[1])
    left = round((frame_hw[1] - image_hw[1] * gain) / 2 - 0.1)
    top = round((frame_hw[0] - image_hw[0] * gain) / 2 - 0.1)
    scaled = (boxes - [left, top, left, top]) / gain
    return np.clip(scaled, 0, np.array([image_hw[1], image_hw[0]] * 2))
