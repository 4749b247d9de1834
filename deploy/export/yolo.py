"""YOLO's instance segmentation as Ultralytics exports it (YOLOv8, 11, end-to-end): heads and prototypes -> rows, masks.

==============  =====================================================================================================
the image       float32 [1, H, W, 3], 0..1, in a letterbox: resized to touch two sides of the frame, grey 114 around it
raw head        [1, 4 + C + M, A] or [1, A, 4 + C + M]: centre x and y, width, height, C scores, M coefficients
end-to-end      [1, N, 6 + M]: x1, y1, x2, y2, score, class, M coefficients, without duplicates
prototypes      [1, H/4, W/4, M] or [1, M, H/4, W/4]: a mask's logits are coefficients x prototypes
==============  =====================================================================================================

A raw head has a place for each cell of its grids, whose strides are powers of two: A = 8400 for 640 x 640. This tells
the layouts apart. Boxes are in pixels of the frame or in shares of it, by the version that exported the model; a trial
run tells. Class 0 of the model is class 1 of the contract, where 0 ends the list.

Sources: ultralytics/ultralytics, ultralytics/utils/nms.py and ops.py. As there, a mask is cut on the prototypes' grid,
by the upper left corners of its cells. There it can stick out of its box by one cell; here it ends at the box, too.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from deploy.export import frame
from deploy.export.graphs import ExportError, Graph, describe, reason
from deploy.export.kinds import Channels, YoloBoxes, YoloOptions
from handler.model.contract import Resize
from handler.types import Size

IOU = 0.7  # upstream's default
GREY = 114
STRIDES = ((8, 16, 32), (8, 16, 32, 64), (4, 8, 16, 32))  # of the grids of a head: P3-P5, P3-P6, P2-P5
STRIDE = 4  # of the prototypes
CLASS_OFFSET_PX = 7680  # between the boxes of two classes, so that none of one suppresses one of another
MASK_PX = 80  # side of a mask; deploy/export/README.md has the table of what each side keeps
MAX_SHARE, MIN_PIXELS = 2.0, 8.0  # the largest coordinate of a head is below the one, or above the other
ROUNDING = 1e-3

Form = Literal["raw", "transposed", "end-to-end"]
Tensors = Mapping[str, tf.Tensor]


@dataclass(frozen=True)
class Detector:
    """What the graph says of itself: names, layouts, sizes. ``classes``: C, None for an end-to-end head."""

    image: str
    head: str
    prototypes: str
    frame_hw: Size
    form: Form
    classes: int | None
    channels: Channels
    boxes: YoloBoxes
    options: YoloOptions

    @property
    def resize(self) -> Resize:
        """The resize rule of the contract."""
        return Resize(mode="letterbox", min_dim=0, max_dim=max(self.frame_hw), frame_hw=self.frame_hw)


def is_alike(graph: Graph) -> bool:
    """Tell whether the graph has the outputs of this dialect: one of rank 3, and one of rank 4."""
    specs = {spec.shape.rank: spec for spec in graph.outputs.values()}
    return len(graph.outputs) == 2 and set(specs) == {3, 4} and specs[3].shape[2] != 6


def read(graph: Graph, options: YoloOptions) -> Detector:
    """Return what the graph says of itself, after a trial run. Raises ExportError if it is no model of this dialect."""
    image, frame_hw = _image(graph)
    if not is_alike(graph):
        expected = "two outputs, a head and prototypes (a model of boxes alone has no masks)"
        raise ExportError(f"a yolo model must have {expected}; got {graph.listing()}")
    by_rank = {spec.shape.rank: (name, spec) for name, spec in graph.outputs.items()}
    (head, head_spec), (prototypes, prototypes_spec) = by_rank[3], by_rank[4]
    channels = _channels(prototypes, prototypes_spec, frame_hw, options.prototypes)
    depth = prototypes_spec.shape[3 if channels == "last" else 1]
    form, classes = _form(head, head_spec, frame_hw, depth)
    if form == "end-to-end" and options.iou is not None:
        raise ExportError(f"--iou must come with a raw head, got {head} {describe(head_spec)}, which is end-to-end")
    try:
        outputs = graph.call({image: tf.constant(_picture(frame_hw))})
    except (tf.errors.OpError, ValueError) as error:
        raise ExportError(f"the model must run on an image of {frame_hw}, got: {reason(error)}") from error
    values = tf.cast(outputs[head], tf.float32).numpy()[0]
    rows = values.T if form == "raw" else values
    _check_rows(rows, form, classes)
    boxes = _unit(rows[:, :4], options.boxes)
    return Detector(image, head, prototypes, frame_hw, form, classes, channels, boxes, options)


def _image(graph: Graph) -> tuple[str, Size]:
    """Return name and size of the one input."""
    specs = list(graph.inputs.values())
    sides = specs[0].shape.as_list() if len(specs) == 1 and specs[0].shape.rank == 4 else []
    fits = sides[:1] in ([1], [None]) and sides[3:] == [3] and not any(side is None or side % 32 for side in sides[1:3])
    if not (fits and specs[0].dtype == tf.float32):
        expected = (
            "one input, the image float32 [1, height, width, 3] of a fixed size, multiples of 32 "
            "(format=saved_model, batch=1)"
        )
        raise ExportError(f"a yolo model must have {expected}; got {graph.listing()}")
    return str(specs[0].name), (sides[1], sides[2])


def _channels(name: str, spec: tf.TensorSpec, frame_hw: Size, wanted: Channels | None) -> Channels:
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
        raise ExportError(f"the prototypes must be {expected}, got {name} {describe(spec)}")
    if wanted is None and len(fits) > 1:
        raise ExportError(f"the channels of {name} {describe(spec)} can be first or last: choose with --prototypes")
    return wanted or fits[0]


def _form(name: str, spec: tf.TensorSpec, frame_hw: Size, depth: int) -> tuple[Form, int | None]:
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
        count, got = min(places), f"{name} {describe(spec)}"
        either = f"[1, {4 + depth} + classes, {count}], its transpose, or [1, detections, {6 + depth}]"
        raise ExportError(f"the head must be {either} (YOLOv5's objectness is not known here), got {got}")
    return fits[0]


def _picture(frame_hw: Size) -> npt.NDArray[np.float32]:
    """Return coloured noise in blocks, float32 [1, H, W, 3], 0..1."""
    blocks = np.random.default_rng(0).random((16, 16, 3), np.float32)
    y, x = (np.arange(side) * 16 // side for side in frame_hw)
    return blocks[y][:, x][None]


def _check_rows(rows: npt.NDArray[Any], form: Form, classes: int | None) -> None:
    """Raise ExportError if what the head answers, rows [n, k], is not what its layout says."""
    if not np.isfinite(rows).all():
        raise ExportError("the head must give finite numbers, got NaN or infinity")
    scores = rows[:, 4:5] if classes is None else rows[:, 4 : 4 + classes]
    if scores.min() < -ROUNDING or scores.max() > 1 + ROUNDING:
        raise ExportError(f"scores must be probabilities, 0..1, got {scores.min():.3g}..{scores.max():.3g}")
    first, second = rows[:, :2], rows[:, 2:4]
    if form == "end-to-end":
        ids = rows[:, 5]
        if (ids < 0).any() or (ids != np.rint(ids)).any():
            raise ExportError(f"the sixth number of a row must be its class, 0, 1, ..., got {ids[:3].tolist()}")
        if (second < first).any():
            raise ExportError("boxes of an end-to-end head must be corners x1, y1, x2, y2, got an x2 or y2 below them")
    elif (second < 0).any() or (second >= first).all():
        what = "a negative side" if (second < 0).any() else "what looks like corners"
        raise ExportError(f"boxes of a raw head must be centre, width and height, got {what}")


def _unit(boxes: npt.NDArray[Any], wanted: YoloBoxes | None) -> YoloBoxes:
    """Return the unit of the boxes [n, 4] of a whole head, all zero if it found nothing."""
    largest = float(boxes.max())
    seen: YoloBoxes | None = None
    if 0 < largest < MAX_SHARE:
        seen = "shares"
    elif largest > MIN_PIXELS:
        seen = "pixels"
    if seen is None and wanted is None:
        got = f"coordinates up to {largest:.3g} in a trial run"
        raise ExportError(f"boxes must be pixels or shares of the frame, got {got}: choose with --boxes")
    if wanted is not None and seen not in (None, wanted):
        raise ExportError(f"--boxes {wanted} must fit the model, got coordinates up to {largest:.3g} in a trial run")
    return wanted or seen or "pixels"


def inputs(detector: Detector, pixels: tf.Tensor) -> Tensors:
    """Return the graph's input for pixels [1, h, w, 3], 0..255, already resized to touch two sides of the frame."""
    framed = frame.centre(tf.cast(pixels, tf.float32), tf.constant(detector.frame_hw), GREY)
    return {detector.image: tf.ensure_shape(framed, [1, *detector.frame_hw, 3]) / 255}


def answer(detector: Detector, outputs: Tensors, size_hw: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return rows float32 [1, N, 6] (y1, x1, y2, x2 in 0..1 of the image, class, score) and masks [1, N, mh, mw].

    ``size_hw`` int32 [2] is the size of the resized image. Boxes are cut to it. N is the number of detections.
    """
    found = _end_to_end(detector, outputs) if detector.form == "end-to-end" else _raw(detector, outputs)
    boxes, classes, scores, coefficients = found
    window = tf.cast(frame.window(size_hw, tf.constant(detector.frame_hw)), tf.float32)
    corner, size = tf.tile(window[:2], [2]), tf.tile(window[2:] - window[:2], [2])
    boxes = tf.gather(boxes, [1, 0, 3, 2], axis=1)
    visible = tf.clip_by_value(boxes, corner, corner + size)
    rows = tf.concat([(visible - corner) / size, classes[:, None] + 1, scores[:, None]], 1)
    return rows[None], _sample(_whole_masks(detector, outputs, coefficients, boxes), visible)[None]


def _raw(detector: Detector, outputs: Tensors) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """Return boxes [n, 4] (x1, y1, x2, y2 in pixels of the frame), classes [n], scores [n] and coefficients [n, M].

    Each place has its best class alone, and suppression is by class.
    """
    options = detector.options
    rows = tf.cast(outputs[detector.head], tf.float32)[0]
    rows = tf.transpose(rows) if detector.form == "raw" else rows
    centre_size, scores, coefficients = tf.split(rows, [4, detector.classes, -1], axis=1)
    best = tf.reduce_max(scores, 1)
    candidates = tf.where(best > options.confidence)[:, 0]
    centre_size, scores, best = (tf.gather(one, candidates) for one in (centre_size, scores, best))
    classes = tf.cast(tf.argmax(scores, 1), tf.float32)
    centre, half = centre_size[:, :2], centre_size[:, 2:] / 2
    boxes = _in_pixels(detector, tf.concat([centre - half, centre + half], 1))
    apart = boxes + classes[:, None] * CLASS_OFFSET_PX
    iou = IOU if options.iou is None else options.iou
    kept = tf.image.non_max_suppression(apart, best, options.max_detections, iou)
    coefficients = tf.gather(coefficients, tf.gather(candidates, kept))
    return tf.gather(boxes, kept), tf.gather(classes, kept), tf.gather(best, kept), coefficients


def _end_to_end(detector: Detector, outputs: Tensors) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """Return the same of a head that has suppressed duplicates itself."""
    options = detector.options
    rows = tf.cast(outputs[detector.head], tf.float32)[0]
    kept = tf.where(rows[:, 4] > options.confidence)[: options.max_detections, 0]
    rows = tf.gather(rows, kept)
    return _in_pixels(detector, rows[:, :4]), rows[:, 5], rows[:, 4], rows[:, 6:]


def _in_pixels(detector: Detector, boxes: tf.Tensor) -> tf.Tensor:
    height, width = detector.frame_hw
    return boxes * tf.constant([width, height] * 2, tf.float32) if detector.boxes == "shares" else boxes


def _whole_masks(detector: Detector, outputs: Tensors, coefficients: tf.Tensor, boxes: tf.Tensor) -> tf.Tensor:
    """Return probabilities [n, h, w] on the grid of the prototypes, zero outside of the boxes y1, x1, y2, x2 [n, 4]."""
    prototypes = tf.cast(outputs[detector.prototypes], tf.float32)[0]
    layout = "hwm" if detector.channels == "last" else "mhw"
    whole = tf.sigmoid(tf.einsum(f"{layout},nm->nhw", prototypes, coefficients))
    y, x = (tf.range(0, side, STRIDE, tf.float32) for side in detector.frame_hw)
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
