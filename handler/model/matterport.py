"""Which tensors of a signature are those of Matterport's Mask R-CNN: by name, or else by type and shape.

Scripts that save such a model choose the names. Common are the layer's (``mrcnn_detection``), the tensor's
(``mrcnn_detection/Reshape_1:0``), short ones (``detection``) and those of Keras 3 (``output_0``).
"""

from collections.abc import Iterable, Mapping

import msgspec

INPUTS = IMAGE, META, ANCHORS = "input_image", "input_image_meta", "input_anchors"
OUTPUTS = DETECTIONS, MASKS = "mrcnn_detection", "mrcnn_mask"
SHORT = {DETECTIONS: ("detection", "detections"), MASKS: ("mask", "masks")}
RANKS = {IMAGE: 4, META: 2, ANCHORS: 3}
BOX_SIDES = 4


class Tensor(msgspec.Struct, frozen=True):
    """Type and shape of a tensor in a signature. ``shape``: None for any rank; None as a side for any size."""

    dtype: str
    shape: tuple[int | None, ...] | None

    @property
    def rank(self) -> int | None:
        """The number of axes, None for any."""
        return None if self.shape is None else len(self.shape)


def find_inputs(inputs: Mapping[str, Tensor]) -> dict[str, str]:
    """Return those of INPUTS that a signature has, each with its name there; empty if it is of another model.

    A tensor whose name says nothing goes by its rank.
    """
    found: dict[str, str] = {}
    for name, tensor in inputs.items():
        by_rank = next((one for one, rank in RANKS.items() if rank == tensor.rank), None)
        one = _layer(name) if _layer(name) in INPUTS else by_rank
        if one is None or one in found:
            return {}
        found[one] = name
    return found if IMAGE in found else {}


def find_outputs(
    outputs: Mapping[str, Tensor], named: Iterable[str | None] = (), *, by_shape: bool
) -> tuple[str, str] | None:
    """Return the names of detections and masks, None if a signature does not show them.

    ``named``: their names, where they are known. ``by_shape``: names that say nothing may be read by type and shape, if
    that leaves one reading.
    """
    detections, masks = tuple(named) or (None, None)
    rows = [detections] if detections else _by_name(outputs, DETECTIONS)
    grids = [masks] if masks else _by_name(outputs, MASKS)
    if by_shape:
        rows = rows or [name for name, tensor in outputs.items() if _is_rows(tensor)]
        grids = grids or _grids(outputs, 5) or _grids(outputs, 4)
    pairs = [(one, other) for one in rows for other in grids if one != other and {one, other} <= set(outputs)]
    if len(pairs) > 1:
        pairs = [pair for pair in pairs if _count(outputs[pair[0]]) == _count(outputs[pair[1]]) is not None]
    return pairs[0] if len(pairs) == 1 else None


def _layer(name: str) -> str:
    """Return the layer in the name of a tensor, such as mrcnn_mask of mrcnn_mask/Reshape_1:0."""
    return name.partition(":")[0].partition("/")[0]


def _by_name(outputs: Mapping[str, Tensor], wanted: str) -> list[str]:
    if wanted in outputs:
        return [wanted]
    if found := [name for name in outputs if _layer(name) == wanted]:
        return found
    fits = _is_rows if wanted == DETECTIONS else _is_grid
    return [name for name, tensor in outputs.items() if _layer(name) in SHORT[wanted] and fits(tensor)]


def _is_rows(tensor: Tensor) -> bool:
    return tensor.dtype == "float32" and tensor.shape is not None and tensor.rank == 3 and tensor.shape[2] == 6


def _is_grid(tensor: Tensor) -> bool:
    boxes = tensor.rank == 4 and tensor.shape is not None and tensor.shape[-1] == BOX_SIDES  # of each class
    return tensor.rank == 5 or (tensor.rank == 4 and not boxes)


def _grids(outputs: Mapping[str, Tensor], rank: int) -> list[str]:
    return [name for name, tensor in outputs.items() if _is_grid(tensor) and tensor.rank == rank]


def _count(tensor: Tensor) -> int | None:
    return None if tensor.shape is None else tensor.shape[1]
