"""How the tensors of a source are meant, as its answers for pictures show.

*Strategy*. A signature does not say whether masks cover the box or the whole image, whether they are logits, whether
boxes are pixels, or whether classes begin at 0. The answers for pictures with objects do. :func:`settle` runs the
source on some, takes what they leave no doubt of, and refuses the rest with the option that settles it. The answers are
kept: the export has to give the same for the same pixels.
"""

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from deploy.export import answer, trial, yolo
from deploy.export.dialects import COUNT, DETECTION, IMAGE_INFO, MARKS, image_of
from deploy.export.graphs import ExportError, reason
from deploy.export.reading import MaskOf, MaskValues, Reading, Scale
from deploy.export.source import Source
from handler.image.decode import Photo
from handler.model.detections import select
from handler.model.matterport import MASKS
from handler.options import Options
from handler.types import Size

Array = npt.NDArray[Any]
Limits = tuple[float, float] | None  # of the values in masks; None without masks
ENOUGH = 3  # pictures with objects
MIN_SCORE = 0.05  # of an object
SCALES: tuple[Scale, ...] = ("0..255", "0..1", "-1..1", "imagenet")
CLEARLY = 1.5  # times the scores of another scale
MAX_EDGE = 4.0  # a box that is a share of the image never reaches further out
OVERSHOOT = 0.25  # of probabilities after a resizing that is not bilinear
MAX_DIFFERENCE = 1e-3  # of rows and masks, between an image alone and in a batch
SMALL = 0.25  # of the image: a box with much around it
INSIDE = 0.95  # of a mask's pixels lie in the box, if the mask covers the image


@dataclass(frozen=True)
class Example:
    """Pixels int8 [1, h, w, 3] of a picture, and the source's rows float32 [N, 6] and masks float32 [N, mh, mw]."""

    codes: npt.NDArray[np.int8]
    rows: Array
    masks: Array


@dataclass(frozen=True)
class Settled:
    """A source whose tensors are understood, its answers for pictures with objects, and lines that tell what it saw."""

    source: Source
    examples: tuple[Example, ...]
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Seen:
    """What a detection model answers for one picture: arrays of n detections, and size and limits of their masks.

    ``within``: for each small box, which share of its mask lies in it, if the mask covers the image.
    """

    frame_hw: Size
    boxes: Array
    classes: Array
    scores: Array
    mask_hw: Size
    limits: Limits
    within: tuple[float, ...]


def settle(source: Source, pictures: Path | None = None, *, batch: bool = False) -> Settled:
    """Run a source on pictures, the files of a folder or those of the exporter, and find how its tensors are meant.

    With ``batch``, it is also tried with two images at once.
    Raises ExportError if it does not run, or if the pictures leave a doubt; the text names the option that settles it.
    Raises ContractViolation if the function would refuse an answer.
    """
    photos = trial.photographs(pictures)
    lines: list[str] = []
    if source.dialect == "yolo":
        source, lines = _settle_yolo(source, photos)
    elif source.dialect != "matterport":
        source, lines = _settle_detections(source, photos)
    examples: list[Example] = []
    tried = 0
    while tried < len(photos) and len(examples) < ENOUGH:
        example = _example(source, photos[tried])
        examples += [example] if len(example.rows) else []
        tried += 1
    if not examples:
        lines.append(f"no object in {len(photos)} pictures: give --images of your own")
        return Settled(source, (), tuple(lines))
    if source.dialect == "matterport" and source.reading.mask_values is None:
        values = _mask_values([_limits(one.masks) for one in examples], source.graph.outputs[MASKS].dtype)
        source = dataclasses.replace(source, reading=dataclasses.replace(source.reading, mask_values=values))
        examples = [
            dataclasses.replace(one, masks=answer.probabilities(one.masks, source.reading).numpy()) for one in examples
        ]
    rows = np.concatenate([example.rows for example in examples])
    refuse_pixels(rows[:, :4])
    _refuse_scores(rows[:, 5], source)
    lines.append(f"{_census(rows, source)} in {len(examples)} of {tried} pictures")
    if batch:
        source = dataclasses.replace(source, takes_batch=_takes_batch(source, examples[0]))
        if not source.takes_batch:
            lines.append("the model does not take two images at once: the images of a batch run one after the other")
    return Settled(source, tuple(examples), tuple(lines))


def _settle_detections(source: Source, photos: Sequence[Photo]) -> tuple[Source, list[str]]:
    """Return a detection model with its tensors understood, and lines that tell what is not as usual."""
    source = _known_scale(source, photos)
    seen = [_look(source, photo) for photo in photos]
    lines = []
    reading = source.reading
    if source.dialect == "model-garden" and not source.is_requested and _are_shares(seen):
        source = dataclasses.replace(source, dialect="object-detection")
        lines.append(f"boxes are shares of the image already, 0..1: {IMAGE_INFO} does not count")
    reading = dataclasses.replace(
        reading,
        first_class=_first_class(seen, reading),
        mask_values=reading.mask_values
        or _mask_values([one.limits for one in seen], source.graph.outputs[DETECTION[3]].dtype),
        mask_of=reading.mask_of or _mask_of(seen),
    )
    if source.reading.first_class is None and any(len(one.scores) for one in seen):
        lines.append(f"no object in {len(seen)} pictures is of class 0, so class ids begin at 1; else --first-class 0")
    if reading.mask_values != "0..1":
        lines.append(f"masks are {reading.mask_values}: they become probabilities")
    if reading.mask_of == "image":
        lines.append(f"masks cover the whole image: each is cut to its box, {answer.MASK_PX} x {answer.MASK_PX}")
    return dataclasses.replace(source, reading=reading), lines


def _settle_yolo(source: Source, photos: Sequence[Photo]) -> tuple[Source, list[str]]:
    """Return a YOLO with the unit of its boxes, and a line that tells it. Raises ExportError if its head is odd."""
    heads = [_run(source, _pixels(source, photo))[yolo.HEAD].numpy() for photo in photos]
    boxes = yolo.find_unit(np.concatenate(heads), source.layout, source.reading)
    reading = dataclasses.replace(source.reading, boxes=boxes)
    unit = "pixels" if boxes == "pixels" else "shares of the model's size"
    return dataclasses.replace(source, reading=reading), [f"boxes of the {source.layout.form} head are {unit}"]


def _known_scale(source: Source, photos: Sequence[Photo]) -> Source:
    """Return a source with the scale of its pixels: 0..255, unless another finds clearly more.

    Raises ExportError in that case.
    """
    reading = source.reading
    if reading.scale is not None or not image_of(source.graph).dtype.is_floating:
        return source
    found: dict[Scale, float] = {}
    for scale in SCALES if image_of(source.graph).shape[3] != 1 else SCALES[:3]:
        tried = dataclasses.replace(source, reading=dataclasses.replace(reading, scale=scale))
        scores = [_look(tried, photo).scores for photo in photos[:ENOUGH]]
        found[scale] = float(np.concatenate(scores).clip(0, 1).sum())
    if not any(found.values()) and len(photos) > ENOUGH:
        return _known_scale(source, photos[ENOUGH:])
    best = max(found, key=lambda scale: found[scale])
    if found[best] > CLEARLY * found["0..255"]:
        sums = ", ".join(f"{scale}: {total:.2f}" for scale, total in found.items())
        raise ExportError(
            f"the pixels of a float image must be 0..255 or --scale must say what else, got the most objects with "
            f"{best} (sums of their scores: {sums}): --scale={best}, or --scale=0..255 if that is right"
        )
    return dataclasses.replace(source, reading=dataclasses.replace(reading, scale="0..255"))


def _look(source: Source, photo: Photo) -> Seen:
    """Run a detection model on a photo, and keep what its answers show."""
    rgb = _pixels(source, photo)
    outputs, size_hw = _run(source, rgb), (int(rgb.shape[1]), int(rgb.shape[2]))
    boxes, classes, scores = (tf.cast(outputs[name], tf.float32).numpy()[0] for name in DETECTION[:3])
    masks = outputs[DETECTION[3]][0]
    counted = np.arange(len(scores)) < int(tf.reshape(outputs[COUNT], [-1])[0]) if COUNT in outputs else scores > 0
    if source.reading.score_values in (None, "0..1"):
        counted &= scores >= MIN_SCORE
    kept = np.flatnonzero(counted)
    own = tf.gather(masks, kept).numpy()
    frame_hw, mask_hw = source.frame_hw or size_hw, (int(masks.shape[1]), int(masks.shape[2]))
    boxes = boxes[kept]
    shares = boxes
    if source.dialect == "model-garden" and np.abs(boxes).max(initial=0) > MAX_EDGE:
        shares = boxes / np.tile(outputs[IMAGE_INFO][0, 2].numpy() * frame_hw, 2)
    return Seen(frame_hw, boxes, classes[kept], scores[kept], mask_hw, _limits(own), tuple(_within(own, shares)))


def _limits(masks: Array) -> Limits:
    return (float(masks.min()), float(masks.max())) if masks.size else None


def _within(masks: Array, boxes: Array) -> Iterator[float]:
    """Yield, for each box of a small share of the image, which part of its mask lies in the box and a pixel around."""
    for mask, box in zip(masks.astype(np.float32), boxes, strict=True):
        y1, x1, y2, x2 = box
        share = (y2 - y1) * (x2 - x1)
        on = mask > (0 if mask.min(initial=0) < 0 else mask.max(initial=0) / 2)
        if not (0 < share < SMALL and on.any()):
            continue
        height, width = mask.shape
        top, left = max(0, int(y1 * height) - 1), max(0, int(x1 * width) - 1)
        yield float(on[top : int(y2 * height) + 2, left : int(x2 * width) + 2].sum() / on.sum())


def _are_shares(seen: Sequence[Seen]) -> bool:
    """Tell whether boxes beside image_info are shares of the image; in pixels they are far above 1."""
    boxes = np.concatenate([one.boxes for one in seen])
    extended = boxes[(boxes[:, 2:] > boxes[:, :2]).all(axis=1)]
    return len(extended) > 0 and float(np.abs(extended).max()) <= MAX_EDGE


def _first_class(seen: Sequence[Seen], reading: Reading) -> int:
    zeros = sum(int((one.classes == 0).sum()) for one in seen)
    if reading.first_class is None and zeros:
        raise ExportError(
            f"class ids must begin at 1, as 0 is the background, got class 0 for {zeros} objects in {len(seen)} "
            "pictures: --first-class 0 if that is the model's first class, --first-class 1 if it is the background"
        )
    return 1 if reading.first_class is None else reading.first_class


def _mask_values(seen: Sequence[Limits], dtype: tf.DType) -> MaskValues:
    """Return what the values of masks mean, by their type and limits in each picture."""
    limits = [one for one in seen if one is not None]
    low, high = min((one[0] for one in limits), default=0.0), max((one[1] for one in limits), default=0.0)
    if dtype == tf.bool or (dtype.is_floating and low >= -OVERSHOOT and high <= 1 + OVERSHOOT):
        return "0..1"
    if dtype.is_floating and low < -OVERSHOOT:
        return "logits"
    if low >= 0 and 128 <= high <= 255:
        return "0..255"
    if dtype.is_integer and low >= 0 and high == 1:
        return "0..1"
    raise ExportError(
        f"masks must be probabilities, 0..255 or logits, got {dtype.name} from {low:g} to {high:g} in {len(seen)} "
        "pictures: say which with --mask-values, or give --images with objects"
    )


def _mask_of(seen: Sequence[Seen]) -> MaskOf:
    """Return what a mask covers: the image if its size is the image's, or changes with it; the box otherwise."""
    sizes = {one.frame_hw: one.mask_hw for one in seen}
    same = all(mask_hw == frame_hw for frame_hw, mask_hw in sizes.items())
    follows = len(sizes) > 1 and len(set(sizes.values())) == len(sizes)
    if same or follows:
        return "image"
    within = [share for one in seen for share in one.within]
    if len(within) > 1 and np.median(within) > INSIDE:
        raise ExportError(
            f"masks must cover the box or the image, got {sum(share > INSIDE for share in within)} of "
            f"{seen[0].mask_hw} pixels that lie where the box lies in the image: --mask-of image if they cover the "
            "image, --mask-of box if that is chance"
        )
    return "box"


def refuse_pixels(boxes: Array) -> None:
    """Raise ExportError if boxes [N, 4] are no shares of the image."""
    edge = float(np.abs(boxes).max(initial=0.0))
    if edge > MAX_EDGE:
        hint = "pixels are for the Model Garden's models, which also give image_info"
        raise ExportError(f"boxes must be shares of the image, 0..1, got up to {edge:.1f} ({hint})")


def _refuse_scores(scores: Array, source: Source) -> None:
    low, high = float(scores.min()), float(scores.max())
    if low < -1e-3 or high > 1 + 1e-3:
        option = (
            ""
            if source.dialect in ("matterport", "yolo")
            else ": --score-values says whether they are 0..100 or logits"
        )
        raise ExportError(f"scores must be probabilities, 0..1, got {low:g} to {high:g}{option}")


def _census(rows: Array, source: Source) -> str:
    """Return how many objects of which classes there are, and their scores."""
    counts = Counter(rows[:, 4].astype(int).tolist()).most_common(5)
    names = ", ".join(f"{count} {source.labels.get(key, f'of class {key}')}" for key, count in counts)
    return f"{len(rows)} objects ({names}; scores {rows[:, 5].min():.2f} to {rows[:, 5].max():.2f})"


def _example(source: Source, photo: Photo) -> Example:
    """Return the rows that the source gives for a photo as the function sends it, and their masks.

    Raises ContractViolation if the function would refuse them.
    """
    rgb = _pixels(source, photo)
    outputs = _run(source, rgb)
    try:
        rows, masks = answer.rows_and_masks(source, outputs, tf.shape(rgb)[1:3])
    except (tf.errors.OpError, ValueError) as error:
        raise ExportError(f"the model must answer as its signature says, got: {reason(error)}") from error
    count = len(select(rows.numpy()[0], Options(), None).index)  # raises ContractViolation, as for a request
    return Example(trial.codes_of(rgb.numpy().astype(np.uint8)), rows.numpy()[0, :count], masks[0, :count].numpy())


def _takes_batch(source: Source, example: Example) -> bool:
    """Tell whether a graph answers a picture and its mirror image together as it does each alone.

    A free batch axis in a signature does not say it: many graphs have one and answer the first image.
    """
    if any(spec.shape.rank is None or spec.shape[0] is not None for spec in source.graph.inputs.values()):
        return False
    rgb = tf.constant(example.codes, tf.int32) + 128
    pair = [rgb, rgb[:, :, ::-1]]
    inputs = [answer.inputs(source, one) for one in pair]
    try:
        both = source.graph.call({name: tf.concat([one[name] for one in inputs], 0) for name in inputs[0]})
        alone = source.graph.call(inputs[1])
    except (tf.errors.OpError, ValueError):
        return False
    wanted = [name for name in (*MARKS[source.dialect], COUNT) if name in both]
    if any(both[name].shape.rank == 0 or both[name].shape[0] != len(pair) for name in wanted):
        return False
    size_hw = tf.shape(rgb)[1:3]
    expected = [(example.rows, example.masks), _real(*answer.rows_and_masks(source, alone, size_hw))]
    among = [{name: both[name][place : place + 1] for name in wanted} for place in range(len(pair))]
    found = [_real(*answer.rows_and_masks(source, one, size_hw)) for one in among]
    return all(
        one.shape == other.shape and np.allclose(one, other, atol=MAX_DIFFERENCE)
        for each, others in zip(expected, found, strict=True)
        for one, other in zip(each, others, strict=True)
    )


def _real(rows: tf.Tensor, masks: tf.Tensor) -> tuple[Array, Array]:
    """Return rows [n, 6] and masks [n, mh, mw] of what is detected, from rows [1, N, 6] and masks [1, N, mh, mw]."""
    kept = int(np.cumprod(rows[0, :, 4] > 0).sum())
    return rows[0, :kept].numpy(), masks[0, :kept].numpy()


def _pixels(source: Source, photo: Photo) -> tf.Tensor:
    """Return a photo as int32 [1, h, w, 3], resized as the function does it."""
    return tf.constant(trial.pixels_of(source, photo)[None], tf.int32)


def _run(source: Source, rgb: tf.Tensor) -> Mapping[str, tf.Tensor]:
    """Return the outputs of a source's graph for pixels int32 [1, h, w, 3]. Raises ExportError if it fails."""
    try:
        return source.graph.call(answer.inputs(source, rgb))
    except (tf.errors.OpError, ValueError) as error:
        size = f"{rgb.shape[1]} x {rgb.shape[2]}"
        raise ExportError(f"the model must run on an image of {size}, got: {reason(error)}") from error
