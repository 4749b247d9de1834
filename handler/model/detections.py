"""The model's output tensors -> the detections that the options select, with boxes in image pixels and masks."""

from typing import Self

import msgspec
import numpy as np
import numpy.typing as npt

from handler.errors import BadRequest, ContractViolation, quoted
from handler.model import mold, quantize
from handler.model.contract import ModelContract
from handler.options import Options
from handler.types import Array, Boxes

MAX_CLASS_ID = 1 << 16
MAX_ID_DIGITS = 9


def class_ids(classes: tuple[str | int, ...], contract: ModelContract) -> frozenset[int] | None:
    """Return the ids of the requested classes, None for all. Raises BadRequest if the model has no such class."""
    if not classes:
        return None
    highest = contract.meta.num_classes - 1 if contract.meta else max(contract.labels, default=MAX_CLASS_ID)
    by_label: dict[str | int, set[int]] = {}
    for key, label in contract.labels.items():
        by_label.setdefault(label, set()).add(key)
    wanted: set[int] = set()
    for name in classes:
        ids = by_label.get(name, set())
        if not ids and 1 <= _parse_id(name) <= highest:
            ids = {_parse_id(name)}
        if not ids:
            known = ", ".join(contract.labels.values()) or "none, as the model names no classes"
            raise BadRequest(f"classes must be labels ({known}) or ids in 1..{highest}, got {quoted(name)}")
        wanted |= ids
    return frozenset(wanted)


def _parse_id(name: str | int) -> int:
    """Return a class id given as a number or in digits, 0 if it is neither."""
    if isinstance(name, int):
        return name
    return int(name) if name.isascii() and name.isdigit() and len(name) <= MAX_ID_DIGITS else 0


class Detections(msgspec.Struct, frozen=True):
    """The selected detections by falling score: row index [n] in the output, boxes [n, 4], classes [n], scores [n]."""

    index: npt.NDArray[np.intp]
    boxes: npt.NDArray[np.float32]
    classes: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]

    def take(self, rows: npt.NDArray[np.intp]) -> Self:
        """Return the detections ``rows`` among these."""
        return type(self)(self.index[rows], self.boxes[rows], self.classes[rows], self.scores[rows])


def select(detections: npt.NDArray[np.float32], options: Options, wanted: frozenset[int] | None) -> Detections:
    """Return the detections that pass the options, from rows [N, 6] in front of the first row of class 0."""
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
    return Detections(index, rows[index, :4], classes[index], rows[index, 5])


def place_in_image(
    rows: Detections, frame: mold.Frame, options: Options, contract: ModelContract
) -> tuple[Detections, Boxes, Boxes]:
    """Return the first ``max_instances`` rows that are visible in the image, their boxes and clipped boxes [n, 4]."""
    in_frame = contract.detections.boxes == "frame"
    boxes = mold.unmold_boxes(rows.boxes, frame) if in_frame else mold.scale_boxes(rows.boxes, frame.image_hw)
    clipped = mold.clip_boxes(boxes, frame.image_hw)
    visible = np.flatnonzero((clipped[:, 2:] > clipped[:, :2]).all(axis=1))[: options.max_instances or None]
    return rows.take(visible), boxes[visible], clipped[visible]


def gather_masks(codes: Array, rows: Detections, contract: ModelContract) -> npt.NDArray[np.float32]:
    """Return mask probabilities float32 [n, h, w] of the rows, from codes [N, h, w] or [N, h, w, C].

    Only these n masks are dequantized. Raises ContractViolation if a row has no mask or its class has no channel.
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
