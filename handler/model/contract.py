"""The contract between client and model: tensor names, dtypes, quantization, resize rule, labels.

A model exported by this project states its contract as JSON in the signature ``CONTRACT_SIGNATURE``. For any other
model, :mod:`handler.backend.metadata` derives one. All later stages read the contract only.

Quantization is affine, as in TensorFlow Lite: ``real = scale * (code - zero_point)``.
"""

import math
from collections.abc import Collection
from typing import Literal, Self

import msgspec

from handler.errors import ContractViolation
from handler.types import Size, TensorSpec

CONTRACT_SIGNATURE = "segment_contract"
CONTRACT_QUERY = "query"  # input of that signature, int8 [n]; the values are ignored
CONTRACT_OUTPUT = "contract"  # output of that signature, string [n], each the same JSON
SCHEMAS = (1, 2, 3)  # from 2 on with ``jpeg``, from 3 on with ``image.size_name``
MAX_SCALE = 1000

INT8_MIN, INT8_MAX = -128, 127
MATTERPORT_MEAN = (123.7, 116.8, 103.9)  # of RGB, 0..255: the default of matterport/Mask_RCNN


def _require(condition: bool, what: str, got: object) -> None:
    if not condition:
        raise ContractViolation(f"contract: {what}, got {got!r}")


def _positive(*values: float) -> bool:
    return all(math.isfinite(value) and value > 0 for value in values)


class _Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of the parts: immutable, keyword-only, without unknown fields."""


class ImageInput(_Part, frozen=True, kw_only=True):
    """The image tensor [1, H, W, 3], RGB.

    ``mean``: the client subtracts it before it quantizes; None if the graph does that. ``padded``: True if the client
    sends the whole frame, False if it sends the resized image and the graph pads. A float32 image has scale 1 and zero
    point 0. Lossless int8 has scale 1, zero point -128 and mean None.

    ``size_name``: the input with the image's height and width, int32 [1, 2], if there is one. A server that joins
    requests to batches may then pad the image below and to the right: the graph cuts the padding off.
    """

    name: str = "input_image"
    dtype: Literal["int8", "float32", "uint8"]
    scale: float = 1.0
    zero_point: int = 0
    mean: tuple[float, float, float] | None = None
    padded: bool
    size_name: str | msgspec.UnsetType = msgspec.UNSET

    def __post_init__(self) -> None:
        _require(bool(self.name), "image.name must not be empty", self.name)
        _require(bool(self.size_name) or not self.has_size, "image.size_name must not be empty", self.size_name)
        _require(_positive(self.scale), "image.scale must be positive and finite", self.scale)
        low, high = (0, 255) if self.dtype == "uint8" else (INT8_MIN, INT8_MAX)
        _require(low <= self.zero_point <= high, f"image.zero_point must be in {low}..{high}", self.zero_point)
        identity = self.dtype != "float32" or (self.scale == 1 and self.zero_point == 0)
        _require(identity, "a float32 image must have scale 1 and zero_point 0", (self.scale, self.zero_point))
        finite = self.mean is None or all(map(math.isfinite, self.mean))
        _require(finite, "image.mean must be three finite numbers", self.mean)

    @property
    def is_lossless_int8(self) -> bool:
        """Whether each code is the pixel less 128."""
        return self.dtype == "int8" and self.scale == 1 and self.zero_point == INT8_MIN and self.mean is None

    @property
    def has_size(self) -> bool:
        """Whether the model also takes the size of the image."""
        return self.size_name is not msgspec.UNSET


class DetectionOutput(_Part, frozen=True, kw_only=True):
    """Detections, float32 [1, N, 6]: y1, x1, y2, x2, class, score. The first row of class 0 ends the list.

    ``boxes``: ``frame`` if they are normalised to the padded frame (:mod:`handler.model.mold`), ``image`` if they are
    fractions 0..1 of the image's height and width.
    """

    name: str = "mrcnn_detection"
    boxes: Literal["frame", "image"] = "frame"

    def __post_init__(self) -> None:
        _require(bool(self.name), "detections.name must not be empty", self.name)


class MaskOutput(_Part, frozen=True, kw_only=True):
    """Mask probabilities: [1, N, mh, mw], or [1, N, mh, mw, C] if ``per_class``.

    ``naive_cast``: the codes are ``cast(p * 255, int8)`` without saturation. Values above 127 have to be recovered; see
    :func:`handler.model.quantize.recover_naive_cast`.
    """

    name: str = "mrcnn_mask"
    dtype: Literal["int8", "float32"]
    scale: float = 1.0
    zero_point: int = 0
    per_class: bool
    naive_cast: bool = False

    def __post_init__(self) -> None:
        _require(bool(self.name), "masks.name must not be empty", self.name)
        _require(_positive(self.scale), "masks.scale must be positive and finite", self.scale)
        _require(INT8_MIN <= self.zero_point <= INT8_MAX, "masks.zero_point must be in -128..127", self.zero_point)
        identity = self.dtype != "float32" or (self.scale == 1 and self.zero_point == 0)
        _require(identity, "float32 masks must have scale 1 and zero_point 0", (self.scale, self.zero_point))
        _require(not self.naive_cast or self.dtype == "int8", "masks.naive_cast needs dtype int8", self.dtype)


class Resize(_Part, frozen=True, kw_only=True):
    """How an image is brought to the model's size; see :func:`handler.model.mold.resize_rule`. Sides in pixels.

    ``mode`` decides the frame. ``square``: max_dim x max_dim. ``pad64``: each side of the resized image, rounded up to
    a multiple of 64. ``fit``: the resized image itself; the graph pads. ``min_dim`` 0 never enlarges. ``min_scale`` 0
    sets no lower bound.

    Two modes are for models whose image has a fixed size, ``frame_hw``. ``letterbox``: the image fills it in one
    direction, and the graph pads the other. ``stretch``: the image becomes it, whatever its aspect. No other mode has
    ``frame_hw``, and JSON leaves it out there: functions that do not know it still read the contract.
    """

    mode: Literal["square", "pad64", "fit", "letterbox", "stretch"]
    min_dim: int
    max_dim: int
    min_scale: float = 0.0
    frame_hw: Size | msgspec.UnsetType = msgspec.UNSET

    def __post_init__(self) -> None:
        _require(8 <= self.max_dim <= 1 << 14, "resize.max_dim must be in 8..16384", self.max_dim)
        aligned = self.mode != "pad64" or self.max_dim % 64 == 0
        _require(aligned, "resize.max_dim must be a multiple of 64 in mode pad64", self.max_dim)
        enlarged = 0 <= self.min_dim <= self.max_dim
        _require(enlarged, f"resize.min_dim must be in 0..max_dim ({self.max_dim})", self.min_dim)
        sides = self.frame_hw if isinstance(self.frame_hw, tuple) else ()
        both = bool(sides) == (self.mode in ("letterbox", "stretch"))
        _require(both, "resize.frame_hw and mode letterbox or stretch must come together", (self.mode, sides))
        longest = not sides or (min(sides) >= 1 and max(sides) == self.max_dim)
        _require(longest, f"resize.frame_hw must be sides in 1..max_dim ({self.max_dim}), one of them max_dim", sides)
        usable = 0 <= self.min_scale <= MAX_SCALE
        _require(usable, f"resize.min_scale must be in 0..{MAX_SCALE}", self.min_scale)

    @classmethod
    def of_matterport(
        cls, mode: Literal["square", "pad64", "none"], min_dim: int, max_dim: int, min_scale: float
    ) -> Self:
        """Return the rule of Matterport's IMAGE_RESIZE_MODE and its numbers.

        Matterport's ``none`` takes only sides that are multiples of 64, as they are. ``pad64`` without enlargement
        gives these the same frame, and pads all others. Source: matterport/Mask_RCNN, mrcnn/utils.py, resize_image.
        """
        if mode == "none":
            return cls(mode="pad64", min_dim=0, max_dim=max_dim)
        return cls(mode=mode, min_dim=min_dim, max_dim=max_dim, min_scale=min_scale)


class MetaInput(_Part, frozen=True, kw_only=True):
    """Matterport's ``input_image_meta``, float32 [1, 12 + num_classes], if the graph takes it from the client."""

    name: str = "input_image_meta"
    num_classes: int

    def __post_init__(self) -> None:
        _require(bool(self.name), "meta.name must not be empty", self.name)
        _require(1 <= self.num_classes <= 1 << 16, "meta.num_classes must be in 1..65536", self.num_classes)


class AnchorInput(_Part, frozen=True, kw_only=True):
    """Matterport's ``input_anchors``, float32 [1, A, 4]: one scale and one stride per pyramid level, in pixels."""

    name: str = "input_anchors"
    scales: tuple[float, ...] = (32, 64, 128, 256, 512)
    ratios: tuple[float, ...] = (0.5, 1, 2)
    strides: tuple[int, ...] = (4, 8, 16, 32, 64)

    def __post_init__(self) -> None:
        _require(bool(self.name), "anchors.name must not be empty", self.name)
        paired = len(self.scales) == len(self.strides) > 0
        _require(paired, "anchors need one scale for each stride", (self.scales, self.strides))
        _require(len(self.ratios) > 0, "anchors.ratios must not be empty", self.ratios)
        usable = _positive(*self.scales, *self.ratios, *self.strides)
        _require(usable, "anchors need positive numbers", (self.scales, self.ratios, self.strides))


class JpegInput(_Part, frozen=True, kw_only=True):
    """The signature that takes a photograph as a JPEG, ``image`` string [n], and its ``orientation``, int32 [n].

    The graph decodes it, resizes it by the contract's rule, and turns it from EXIF's orientation, 1..8. The int8 tensor
    that it makes is, bit for bit, the one that the client would have sent. The outputs are those of the contract.
    """

    image: str = "image_jpeg"
    orientation: str = "orientation"
    signature: str = "segment_jpeg"

    def __post_init__(self) -> None:
        names = (self.image, self.orientation, self.signature)
        _require(all(names), "jpeg.image, jpeg.orientation and jpeg.signature must not be empty", names)
        _require(self.image != self.orientation, "jpeg.image and jpeg.orientation must differ", names)


class MatterportSettings(_Part, frozen=True, kw_only=True):
    """The settings for a Matterport model without a contract. ``labels``: names from class 1 on, may be empty.

    ``outputs``: the names of detections and masks; empty if the signature shows them.
    """

    resize: Resize
    mean: tuple[float, float, float]
    anchors: AnchorInput
    labels: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()


class ModelContract(_Part, frozen=True, kw_only=True):
    """The whole contract. ``labels``: class id -> name, may be empty. ``source``: where the contract came from.

    ``jpeg``: the second signature, from schema 2 on. JSON leaves it out if there is none, and ``image.size_name``, of
    schema 3, too: functions that know schema 1 alone still read the contract.
    """

    schema: int = SCHEMAS[0]
    image: ImageInput
    detections: DetectionOutput = DetectionOutput()
    masks: MaskOutput
    resize: Resize
    labels: dict[int, str] = {}
    source: str
    meta: MetaInput | None = None
    anchors: AnchorInput | None = None
    signature: str = "serving_default"
    jpeg: JpegInput | msgspec.UnsetType = msgspec.UNSET

    def __post_init__(self) -> None:
        _require(self.schema in SCHEMAS, f"schema must be one of {', '.join(map(str, SCHEMAS))}", self.schema)
        _require(self.schema > 1 or not self.takes_jpeg, "schema must be 2 or 3 if jpeg is set", self.schema)
        _require(self.schema > 2 or not self.image.has_size, "schema must be 3 if image.size_name is set", self.schema)
        _require(bool(self.signature), "signature must not be empty", self.signature)
        _require(all(key > 0 for key in self.labels), "labels must be keyed by class ids from 1", sorted(self.labels))
        names = [part.name for part in (self.image, self.meta, self.anchors) if part is not None]
        names += [self.image.size_name] if isinstance(self.image.size_name, str) else []
        _require(len(set(names)) == len(names), "input names must differ", names)
        grey = self.resize.mode != "letterbox" or not self.image.padded  # the function would pad with zeros
        _require(grey, "image.padded must be false with resize mode letterbox", self.image.padded)
        outputs = [self.detections.name, self.masks.name]
        _require(len(set(outputs)) == len(outputs), "output names must differ", outputs)

    @property
    def takes_jpeg(self) -> bool:
        """Whether the model takes a photograph as a JPEG, too."""
        return isinstance(self.jpeg, JpegInput)

    def signature_of(self, inputs: Collection[str]) -> str:
        """Return the name of the signature that takes inputs of these names."""
        if isinstance(self.jpeg, JpegInput) and self.jpeg.image in inputs:
            return self.jpeg.signature
        return self.signature

    @property
    def takes_pixels(self) -> bool:
        """Whether the model takes the pixels, each less 128, and nothing that depends on the frame."""
        return self.image.is_lossless_int8 and self.meta is None and self.anchors is None

    @property
    def outputs(self) -> tuple[TensorSpec, TensorSpec]:
        """The model's outputs: detections [1, N, 6], and masks [1, N, h, w] or [1, N, h, w, C]."""
        sides = (None,) * (4 if self.masks.per_class else 3)
        return (
            TensorSpec(self.detections.name, "float32", (1, None, 6)),
            TensorSpec(self.masks.name, self.masks.dtype, (1, *sides)),
        )

    def to_json(self) -> str:
        """Return the contract as JSON, fields in the order of their declaration."""
        return msgspec.json.encode(self).decode()

    @staticmethod
    def from_json(text: bytes | str) -> "ModelContract":
        """Return the contract that :meth:`to_json` wrote.

        Raises ContractViolation if the JSON is bad, a field is unknown or missing, or a value is of the wrong type or
        out of range.
        """
        try:
            return _decoder.decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ContractViolation(f"the model's contract cannot be read: {error}") from error


# It is made at import, by one thread. At the first use of a type, msgspec 0.22 crashes if several threads use it.
_decoder = msgspec.json.Decoder(ModelContract)
