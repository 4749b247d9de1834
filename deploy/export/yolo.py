"""YOLO's instance segmentation as Ultralytics exports it (YOLOv8, 11, end-to-end): heads and prototypes -> rows, masks.

==============  =====================================================================================================
the image       float32 [1, H, W, 3], 0..1, in a letterbox: resized to touch two sides of the frame, grey 114 around it
raw head        [1, 4 + C + M, A] or [1, A, 4 + C + M]: centre x and y, width, height, C scores, M coefficients
end-to-end      [1, N, 6 + M]: x1, y1, x2, y2, score, class, M coefficients, without duplicates
prototypes      [1, H/4, W/4, M] or [1, M, H/4, W/4]: a mask's logits are coefficients x prototypes
==============  =====================================================================================================

A raw head has a place for each cell of its grids, whose strides are powers of two: A = 8400 for 640 x 640. This tells
the layouts apart. Boxes are in pixels of the frame or in shares of it, by the version that exported the model; the
answers for pictures tell. Class 0 of the model is class 1 of the contract, where 0 ends the list.

Sources: ultralytics/ultralytics, ultralytics/utils/nms.py and ops.py. As there, a mask is cut on the prototypes' grid,
by the upper left corners of its cells. There it can stick out of its box by one cell; here it ends at the box, too.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from deploy.export.graphs import ExportError, Signature, Tensors, describe
from deploy.export.reading import Boxes, Channels, Reading
from handler.types import Size

OUTPUTS = HEAD, PROTOTYPES = "head", "prototypes"
DEFAULTS = {"scale": "0..1", "resize": "letterbox", "confidence": 0.25, "iou": 0.7, "max_detections": 300}  # upstream's
STRIDES = ((8, 16, 32), (8, 16, 32, 64), (4, 8, 16, 32))  # of the grids of a head: P3-P5, P3-P6, P2-P5
STRIDE = 4  # of the prototypes
CLASS_OFFSET_PX = 7680  # between the boxes of two classes, so that none of one suppresses one of another
MASK_PX = 80  # side of a mask; deploy/export/README.md has the table of what each side keeps
MAX_SHARE, MIN_PIXELS = 2.0, 8.0  # the largest coordinate of a head is below the one, or above the other
ROUNDING = 1e-3

Form = Literal["raw", "transposed", "end-to-end"]


@dataclass(frozen=True)
class Layout:
    """What the shapes say: size of the frame, layout of head and prototypes. ``classes``: C, None if end-to-end."""

    frame_hw: Size
    form: Form
    classes: int | None
    channels: Channels


def is_alike(signature: Signature) -> bool:
    """Tell whether a signature has the outputs of this dialect: one of rank 3, and one of rank 4."""
    specs = {spec.shape.rank: spec for spec in signature.outputs.values()}
    return len(signature.outputs) == 2 and set(specs) == {3, 4} and specs[3].shape[2] != 6


def names(signature: Signature) -> dict[str, str]:
    """Return the model's names of OUTPUTS. Raises ExportError if it has other ones."""
    if not is_alike(signature):
        expected = "two outputs, a head and prototypes (a model of boxes alone has no masks)"
        raise ExportError(f"a yolo model must have {expected}; got {signature.listing()}")
    by_rank = {spec.shape.rank: name for name, spec in signature.outputs.items()}
    return {HEAD: by_rank[3], PROTOTYPES: by_rank[4]}


def read(image: tf.TensorSpec, head: tf.TensorSpec, prototypes: tf.TensorSpec, wanted: Channels | None) -> Layout:
    """Return what the shapes of image and outputs say. Raises ExportError if they are none of this dialect.

    ``wanted``: place of the prototypes' channels, None to find it.
    """
    _, height, width, _ = image.shape.as_list()
    if image.dtype != tf.float32 or height is None or height % 32 or width % 32:
        expected = "the image float32 [1, height, width, 3] of a fixed size, multiples of 32 (format=saved_model)"
        raise ExportError(f"a yolo model must take {expected}, got {describe(image)}")
    frame_hw = (height, width)
    channels = _channels(prototypes, frame_hw, wanted)
    form, classes = _form(head, frame_hw, prototypes.shape[3 if channels == "last" else 1])
    return Layout(frame_hw, form, classes, channels)


def with_defaults(reading: Reading, layout: Layout) -> Reading:
    """Return a reading with DEFAULTS for what it does not say. Raises ExportError if it does not fit the head."""
    if layout.form == "end-to-end" and reading.iou is not None:
        raise ExportError("--iou must come with a raw head, got an end-to-end head, which suppresses duplicates itself")
    unsaid: dict[str, Any] = {name: value for name, value in DEFAULTS.items() if getattr(reading, name) is None}
    return dataclasses.replace(reading, **unsaid)


def _channels(spec: tf.TensorSpec, frame_hw: Size, wanted: Channels | None) -> Channels:
    cells = [side // STRIDE for side in frame_hw]
    sides = spec.shape.as_list()
    fits: list[Channels] = []
    if sides[1:3] == cells and sides[3] is not None:
        fits.append("last")
    if sides[2:4] == cells and sides[1] is not None:
        fits.append("first")
    if not fits or (wanted is not None and wanted not in fits):
        height, width = cells
        last, first = f"[1, {height}, {width}, channels]", f"[1, channels, {height}, {width}]"
        expected = {"last": last, "first": first, None: f"{last} or {first}"}[wanted]
        raise ExportError(f"the prototypes must be {expected}, got {describe(spec)}")
    if wanted is None and len(fits) > 1:
        raise ExportError(f"the channels of prototypes {describe(spec)} can be first or last: choose with --prototypes")
    return wanted or fits[0]


def _form(spec: tf.TensorSpec, frame_hw: Size, depth: int) -> tuple[Form, int | None]:
    """Return the layout of the head and its number of classes, for prototypes of ``depth`` channels."""
    _, second, third = spec.shape.as_list()
    places = {sum((frame_hw[0] // one) * (frame_hw[1] // one) for one in strides) for strides in STRIDES}
    fits: list[tuple[Form, int | None]] = []
    if third in places and second is not None and second > 4 + depth:
        fits.append(("raw", second - 4 - depth))
    if second in places and third is not None and third > 4 + depth:
        fits.append(("transposed", third - 4 - depth))
    if third == 6 + depth and second not in places:
        fits.append(("end-to-end", None))
    if len(fits) != 1:
        count = min(places)
        either = f"[1, {4 + depth} + classes, {count}], its transpose, or [1, detections, {6 + depth}]"
        raise ExportError(f"the head must be {either} (YOLOv5's objectness is not known here), got {describe(spec)}")
    return fits[0]


def find_unit(heads: npt.NDArray[Any], layout: Layout, reading: Reading) -> Boxes:
    """Return the unit of boxes that heads [n, ...] show, the answers for n pictures.

    Raises ExportError if they are not what their layout says, if they leave a doubt, or if ``reading`` does not fit.
    """
    rows = heads.swapaxes(1, 2) if layout.form == "raw" else heads
    rows = rows.reshape(-1, rows.shape[2]).astype(np.float32)
    _check_rows(rows, layout, reading.confidence or 0.0)
    return _unit(rows[:, :4], reading.boxes)


def _check_rows(rows: npt.NDArray[Any], layout: Layout, confidence: float) -> None:
    """Raise ExportError if what the head answers, rows [n, k], is not what its layout says.

    Only what is detected has a box: in the other rows, a side may be below zero.
    """
    if not np.isfinite(rows).all():
        raise ExportError("the head must give finite numbers, got NaN or infinity")
    scores = rows[:, 4:5] if layout.classes is None else rows[:, 4 : 4 + layout.classes]
    if scores.min() < -ROUNDING or scores.max() > 1 + ROUNDING:
        raise ExportError(f"scores must be probabilities, 0..1, got {scores.min():.3g}..{scores.max():.3g}")
    rows = rows[scores.max(axis=1) > confidence]
    first, second = rows[:, :2], rows[:, 2:4]
    if layout.form == "end-to-end":
        ids = rows[:, 5]
        if (ids < 0).any() or (ids != np.rint(ids)).any():
            raise ExportError(f"the sixth number of a row must be its class, 0, 1, ..., got {ids[:3].tolist()}")
        if (second < first).any():
            raise ExportError("boxes of an end-to-end head must be corners x1, y1, x2, y2, got an x2 or y2 below them")
    elif (second < 0).any() or (len(rows) and (second >= first).all()):
        what = "a negative side" if (second < 0).any() else "what looks like corners"
        raise ExportError(f"boxes of a raw head must be centre, width and height, got {what}")


def _unit(boxes: npt.NDArray[Any], wanted: Boxes | None) -> Boxes:
    """Return the unit of the boxes [n, 4] of a whole head, all zero if it found nothing."""
    largest = float(boxes.max())
    seen: Boxes | None = None
    if 0 < largest < MAX_SHARE:
        seen = "shares"
    elif largest > MIN_PIXELS:
        seen = "pixels"
    if seen is None and wanted is None:
        got = f"coordinates up to {largest:.3g} in the pictures"
        raise ExportError(
            f"boxes must be pixels or shares of the frame, got {got}: choose with --boxes, or give other --images"
        )
    if wanted is not None and seen not in (None, wanted):
        raise ExportError(f"--boxes {wanted} must fit the model, got coordinates up to {largest:.3g} in the pictures")
    return wanted or seen or "pixels"


def rows_and_masks(
    outputs: Tensors, layout: Layout, window: tf.Tensor, reading: Reading
) -> tuple[tf.Tensor, tf.Tensor]:
    """Return rows float32 [1, N, 6] (y1, x1, y2, x2 in shares of the frame, class, score) and masks [1, N, mh, mw].

    ``window`` int32 [4] is the place of the image in the frame. Boxes are cut to it. N is the number of detections.
    """
    found = _end_to_end(outputs, layout, reading) if layout.form == "end-to-end" else _raw(outputs, layout, reading)
    boxes, classes, scores, coefficients = found
    boxes = tf.gather(boxes, [1, 0, 3, 2], axis=1)
    corners = tf.cast(window, tf.float32)
    visible = tf.clip_by_value(boxes, tf.tile(corners[:2], [2]), tf.tile(corners[2:], [2]))
    shares = visible / tf.constant(layout.frame_hw * 2, tf.float32)
    rows = tf.concat([shares, classes[:, None] + 1, scores[:, None]], 1)
    return rows[None], _sample(_whole_masks(outputs, layout, coefficients, boxes), visible)[None]


def _raw(outputs: Tensors, layout: Layout, reading: Reading) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """Return boxes [n, 4] (x1, y1, x2, y2 in pixels of the frame), classes [n], scores [n] and coefficients [n, M].

    Each place has its best class alone, and suppression is by class.
    """
    rows = tf.cast(outputs[HEAD], tf.float32)[0]
    rows = tf.transpose(rows) if layout.form == "raw" else rows
    centre_size, scores, coefficients = tf.split(rows, [4, layout.classes, -1], axis=1)
    best = tf.reduce_max(scores, 1)
    candidates = tf.where(best > reading.confidence)[:, 0]
    centre_size, scores, best = (tf.gather(one, candidates) for one in (centre_size, scores, best))
    classes = tf.cast(tf.argmax(scores, 1), tf.float32)
    centre, half = centre_size[:, :2], centre_size[:, 2:] / 2
    boxes = _in_pixels(tf.concat([centre - half, centre + half], 1), layout, reading)
    apart = boxes + classes[:, None] * CLASS_OFFSET_PX
    kept = tf.image.non_max_suppression(apart, best, reading.max_detections, reading.iou)
    coefficients = tf.gather(coefficients, tf.gather(candidates, kept))
    return tf.gather(boxes, kept), tf.gather(classes, kept), tf.gather(best, kept), coefficients


def _end_to_end(
    outputs: Tensors, layout: Layout, reading: Reading
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """Return the same of a head that has suppressed duplicates itself."""
    rows = tf.cast(outputs[HEAD], tf.float32)[0]
    rows = tf.gather(rows, tf.where(rows[:, 4] > reading.confidence)[: reading.max_detections, 0])
    return _in_pixels(rows[:, :4], layout, reading), rows[:, 5], rows[:, 4], rows[:, 6:]


def _in_pixels(boxes: tf.Tensor, layout: Layout, reading: Reading) -> tf.Tensor:
    height, width = layout.frame_hw
    return boxes * tf.constant([width, height] * 2, tf.float32) if reading.boxes == "shares" else boxes


def _whole_masks(outputs: Tensors, layout: Layout, coefficients: tf.Tensor, boxes: tf.Tensor) -> tf.Tensor:
    """Return probabilities [n, h, w] on the grid of the prototypes, zero outside of the boxes y1, x1, y2, x2 [n, 4]."""
    prototypes = tf.cast(outputs[PROTOTYPES], tf.float32)[0]
    axes = "hwm" if layout.channels == "last" else "mhw"
    whole = tf.sigmoid(tf.einsum(f"{axes},nm->nhw", prototypes, coefficients))
    y, x = (tf.range(0, side, STRIDE, tf.float32) for side in layout.frame_hw)
    top, left, bottom, right = tf.split(boxes, 4, axis=1)
    high, wide = (y >= top) & (y < bottom), (x >= left) & (x < right)
    return tf.where(high[:, :, None] & wide[:, None, :], whole, 0.0)


def _sample(whole: tf.Tensor, boxes: tf.Tensor) -> tf.Tensor:
    """Return masks [n, MASK_PX, MASK_PX] over the boxes [n, 4] (y1, x1, y2, x2 in pixels) of whole ones [n, h, w].

    Bilinear, at the centres of MASK_PX x MASK_PX cells of the box; the edge of the whole mask continues outside.
    """
    top, left, bottom, right = tf.split(boxes / STRIDE, 4, axis=1)
    rows = _weights(top, bottom, tf.shape(whole)[1])
    columns = _weights(left, right, tf.shape(whole)[2])
    return tf.matmul(tf.matmul(rows, whole), columns, transpose_b=True)


def _weights(start: tf.Tensor, end: tf.Tensor, cells: tf.Tensor) -> tf.Tensor:
    """Return the weights [n, MASK_PX, cells] of linear interpolation between ``start`` and ``end`` [n, 1], in cells."""
    share = (tf.range(MASK_PX, dtype=tf.float32) + 0.5) / MASK_PX
    centre = tf.range(tf.cast(cells, tf.float32)) + 0.5
    at = tf.clip_by_value(start + (end - start) * share, centre[0], centre[-1])
    return tf.nn.relu(1 - tf.abs(at[:, :, None] - centre))
