"""The story of one image, a stage a line; the model is a callable, so nothing here knows of a network."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from handler.backend.wire import Answer, Expected
from handler.errors import BadRequest, ContractViolation, shown
from handler.image.decode import Limits, Photo, decode_image
from handler.masks.encodings import Encoded, Masks, encode_masks, unmold_masks
from handler.model import mold, quantize
from handler.model.contract import ModelContract
from handler.options import Options

Array = npt.NDArray[Any]
Predict = Callable[[Mapping[str, Array], tuple[Expected, ...]], Answer]

STAGES = ("decode", "mold", "predict", "unmold", "encode")
MAX_CLASS_ID = 1 << 16
MAX_ID_DIGITS = 9


@dataclass(frozen=True, slots=True)
class Instance:
    """One object; ``box`` is y1, x1, y2, x2 in image pixels, y2 and x2 exclusive; ``mask`` as the options want it."""

    class_id: int
    label: str | None
    score: float
    box: tuple[int, int, int, int]
    area: int
    mask: Encoded | None


@dataclass(frozen=True, slots=True)
class Result:
    """The answer: instances by falling score, the seconds each stage took, the bytes to and from the model."""

    image_hw: tuple[int, int]
    version: int
    instances: tuple[Instance, ...]
    durations_s: Mapping[str, float]
    up_bytes: int = 0
    down_bytes: int = 0


@dataclass(slots=True)
class Clock:
    """Seconds by stage, all of them from the start, in the order of the story."""

    durations_s: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time of the block to stage ``name``."""
        start = time.perf_counter()
        yield
        self.durations_s[name] += time.perf_counter() - start


def segment(data: bytes, options: Options, contract: ModelContract, predict: Predict, limits: Limits) -> Result:
    """Return what the model sees in the encoded image ``data``.

    Raises BadRequest, UnsupportedMedia or TooLarge for the image or an unknown class, ContractViolation where the
    answer does not fit the contract, and whatever ``predict`` raises.
    """
    clock = Clock()
    wanted = class_ids(options.class_names, contract)
    with clock.stage("decode"):
        photo = decode_image(data, limits, lambda size_hw: mold.resize_rule(size_hw, contract.resize).resized_hw)
    with clock.stage("mold"):
        inputs, frame = encode_inputs(photo, contract)
    with clock.stage("predict"):
        answer = predict(inputs, expected_outputs(contract))
    with clock.stage("unmold"):
        rows = select(answer.outputs[contract.detections.name][0], options, wanted)
        rows, boxes, clipped = place(rows, frame, options, contract)
        masks = gather_masks(answer.outputs[contract.masks.name][0], rows, contract)
        unmolded = unmold_masks(masks, boxes, clipped, frame.image_hw, options.mask_threshold)
    with clock.stage("encode"):
        encoded = encode_masks(unmolded, options.encoding)
    instances = build_instances(rows, unmolded, encoded, contract)
    return Result(frame.image_hw, answer.version, instances, clock.durations_s, answer.up_bytes, answer.down_bytes)


def encode_inputs(photo: Photo, contract: ModelContract) -> tuple[dict[str, Array], mold.Frame]:
    """Return the model's input tensors for the photo, and where it lies in the frame."""
    molded, frame = mold.mold(photo, contract.resize, contract.image.padded)
    inputs = {contract.image.name: quantize.quantize_image(molded, contract.image)[None]}
    if contract.meta is not None:
        inputs[contract.meta.name] = mold.meta(frame, contract.meta.num_classes)
    if contract.anchors is not None:
        inputs[contract.anchors.name] = mold.anchors(frame.frame_hw, contract.anchors)
    return inputs, frame


def expected_outputs(contract: ModelContract) -> tuple[Expected, ...]:
    """Return what the contract wants back: detections [1, N, 6] and masks [1, N, h, w] or [1, N, h, w, C]."""
    rank = 5 if contract.masks.per_class else 4
    return (
        Expected(contract.detections.name, "float32", (1, None, 6)),
        Expected(contract.masks.name, contract.masks.dtype, (1, *[None] * (rank - 1))),
    )


def class_ids(classes: tuple[str | int, ...], contract: ModelContract) -> frozenset[int] | None:
    """Return the ids of the classes asked for, None for all; raises BadRequest for a label the model does not have."""
    if not classes:
        return None
    highest = contract.meta.num_classes - 1 if contract.meta else max(contract.labels, default=MAX_CLASS_ID)
    wanted: set[int] = set()
    for name in classes:
        ids = {key for key, label in contract.labels.items() if label == name}
        if not ids and 1 <= _as_id(name) <= highest:
            ids = {_as_id(name)}
        if not ids:
            known = ", ".join(contract.labels.values()) or "none, as the model names no classes"
            raise BadRequest(f"classes must be labels ({known}) or ids in 1..{highest}, got {shown(name)}")
        wanted |= ids
    return frozenset(wanted)


def _as_id(name: str | int) -> int:
    """Return the class id that is meant, 0 where it is none."""
    if isinstance(name, int):
        return name
    return int(name) if name.isascii() and name.isdigit() and len(name) <= MAX_ID_DIGITS else 0


@dataclass(frozen=True, slots=True)
class Rows:
    """The detections kept, by falling score: their row in the model's answer, boxes [n, 4], classes [n], scores [n]."""

    index: npt.NDArray[np.intp]
    boxes: npt.NDArray[np.float32]
    classes: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]

    def at(self, places: npt.NDArray[np.intp]) -> "Rows":
        """Return the rows at some places among these."""
        return Rows(self.index[places], self.boxes[places], self.classes[places], self.scores[places])


def select(detections: npt.NDArray[np.float32], options: Options, wanted: frozenset[int] | None) -> Rows:
    """Return the detections [N, 6] before the first row of class 0 that pass the options."""
    ends = np.flatnonzero(detections[:, 4] == 0)
    rows = detections[: ends[0]] if len(ends) else detections
    if not np.isfinite(rows).all():
        raise ContractViolation("detections must be finite numbers, got NaN or infinity")
    if ((rows[:, 4] < 0) | (rows[:, 4] != np.rint(rows[:, 4])) | (rows[:, 4] > MAX_CLASS_ID)).any():
        raise ContractViolation(f"detection classes must be whole numbers in 0..65536, got {rows[:, 4].tolist()[:5]}")
    classes = rows[:, 4].astype(np.int64)
    keep = rows[:, 5] >= options.threshold
    if wanted is not None:
        keep &= np.isin(classes, sorted(wanted))
    index = np.flatnonzero(keep)
    index = index[np.argsort(-rows[index, 5], kind="stable")]
    return Rows(index, rows[index, :4], classes[index], rows[index, 5])


def place(
    rows: Rows, frame: mold.Frame, options: Options, contract: ModelContract
) -> tuple[Rows, mold.Boxes, mold.Boxes]:
    """Return the rows whose box, cut to the image, is not empty, up to ``max_instances``, and boxes, whole and cut."""
    in_frame = contract.detections.boxes == "frame"
    boxes = mold.unmold_boxes(rows.boxes, frame) if in_frame else mold.scale_boxes(rows.boxes, frame.image_hw)
    clipped = mold.clip_boxes(boxes, frame.image_hw)
    visible = np.flatnonzero((clipped[:, 2:] > clipped[:, :2]).all(axis=1))[: options.max_instances or None]
    return rows.at(visible), boxes[visible], clipped[visible]


def gather_masks(codes: Array, rows: Rows, contract: ModelContract) -> npt.NDArray[np.float32]:
    """Return probabilities float32 [n, h, w] of the rows, from codes [N, h, w] or [N, h, w, C]; only these dequantized.

    Raises ContractViolation where a row has no mask, or its class no channel.
    """
    if rows.index.max(initial=-1) >= len(codes):
        raise ContractViolation(f"{contract.masks.name} must have a mask for each detection, got {len(codes)}")
    if contract.masks.per_class and rows.classes.max(initial=-1) >= codes.shape[-1]:
        got = f"{codes.shape[-1]} channels for class {rows.classes.max()}"
        raise ContractViolation(f"{contract.masks.name} must have a channel for each class, got {got}")
    if 0 in codes.shape[1:]:
        raise ContractViolation(f"{contract.masks.name} must have pixels, got shape {codes.shape}")
    chosen = codes[rows.index, :, :, rows.classes] if contract.masks.per_class else codes[rows.index]
    return quantize.dequantize_masks(chosen, contract.masks)


def build_instances(
    rows: Rows, masks: Masks, encoded: Sequence[Encoded | None], contract: ModelContract
) -> tuple[Instance, ...]:
    """Return what is told of each row."""
    facts = zip(
        rows.classes.tolist(), rows.scores.tolist(), masks.clipped.tolist(), masks.spans.areas(), encoded, strict=True
    )
    return tuple(
        Instance(class_id, contract.labels.get(class_id), score, (y1, x1, y2, x2), area, mask)
        for class_id, score, (y1, x1, y2, x2), area, mask in facts
    )
