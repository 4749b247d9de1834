"""The types that all packages share.

Sizes are (height, width) in pixels. Boxes are y1, x1, y2, x2 in pixels; y2 and x2 are exclusive.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

import msgspec
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Size = tuple[int, int]
Box = tuple[int, int, int, int]
Inputs = Mapping[str, Array | bytes]  # input tensors by name; bytes are a string tensor [1]
Boxes = npt.NDArray[np.int64]  # [n, 4]


class TensorSpec(msgspec.Struct, frozen=True):
    """An output tensor as the contract requires it. None in ``shape`` allows any size."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]

    def __str__(self) -> str:
        dims = ", ".join("any" if dim is None else str(dim) for dim in self.shape)
        return f"{self.name} must be {self.dtype} [{dims}]"


class Prediction(msgspec.Struct, frozen=True):
    """The model's output tensors by name, its version, the sizes of request and response in bytes.

    ``repeats``: how often the request was sent again, because the server was busy or gone.
    """

    outputs: Mapping[str, Array]
    version: int
    up_bytes: int = 0
    down_bytes: int = 0
    repeats: int = 0


class Placed(Protocol):
    """A call of the model whose int8 image is written into the request, so that nothing copies it."""

    @property
    def codes(self) -> npt.NDArray[np.int8]:
        """The memory of the image, int8 [1, h, w, 3], to be filled."""

    def predict(self) -> Prediction:
        """Call the model. No array may refer to ``codes`` any more."""


Predict = Callable[[Inputs], Prediction]  # the tensors of a signature in the contract -> the outputs in the contract
Place = Callable[[Size, Inputs], Placed]  # by the size of the image, and the other inputs
Away = Callable[[], AbstractContextManager[None]]  # lets others begin while an image waits in the block
