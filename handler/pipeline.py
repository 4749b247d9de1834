"""All stages for one image, from bytes to instances. The model is a callable, so no network is needed here."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from handler.errors import RequestRefused, SegmentError
from handler.image import turbo, undecoded
from handler.image.decode import Limits, decode_image
from handler.image.undecoded import Unfit
from handler.masks.encodings import Encoder, Masks, encode_rle, unmold_masks
from handler.memory import Reserve
from handler.model import mold, quantize
from handler.model.contract import ImageInput, JpegInput, ModelContract
from handler.model.detections import Detections, class_ids, gather_masks, place_in_image, select
from handler.options import Options
from handler.types import Array, Box, Inputs, Place, Placed, Predict, Prediction, Size

Transport = Literal["int8", "jpeg"]
STAGES = ("decode", "mold", "predict", "unmold", "encode")


class Way(msgspec.Struct, frozen=True):
    """How the image went to the model, as an int8 tensor or as the JPEG itself, and why."""

    transport: Transport
    why: str

    @property
    def log_fields(self) -> dict[str, str]:
        """What the log tells of it."""
        return {"image_transport": self.transport, "image_transport_why": self.why}

    @contextmanager
    def told(self) -> Iterator[None]:
        """Let the log tell the way of an image that fails in the block."""
        try:
            yield
        except SegmentError as error:
            error.log_fields = self.log_fields
            raise


AS_JPEG = Way("jpeg", "the model takes this JPEG")
SETTING = Way("int8", "the setting IMAGE_TRANSPORT")
UNLIMITED: AbstractContextManager[Reserve] = nullcontext(lambda _: None)


class Instance(msgspec.Struct, frozen=True):
    """One object. ``box`` and ``area`` are in image pixels; ``mask`` is as the encoder returned it."""

    class_id: int
    label: str | None
    score: float
    box: Box
    area: int
    mask: Any


class Result(msgspec.Struct, frozen=True):
    """Instances by falling score, seconds per stage, bytes sent to and received from the model, repeated requests.

    ``way``: how the image went to the model.
    """

    image_hw: Size
    version: int
    instances: tuple[Instance, ...]
    durations_s: Mapping[str, float]
    up_bytes: int = 0
    down_bytes: int = 0
    repeats: int = 0
    way: Way = SETTING


class Clock(msgspec.Struct):
    """Seconds per stage, in the order of STAGES. A stage that did not run has 0."""

    durations_s: dict[str, float] = msgspec.field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time that the block takes to stage ``name``."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.durations_s[name] += time.perf_counter() - start


def segment(
    data: bytes,
    options: Options,
    contract: ModelContract,
    predict: Predict,
    limits: Limits,
    *,
    encode: Encoder = encode_rle,
    transport: Transport = "int8",
    place: Place | None = None,
    room: AbstractContextManager[Reserve] = UNLIMITED,
) -> Result:
    """Return the instances that the model finds in the encoded image ``data``, masks encoded by ``encode``.

    With ``transport`` jpeg, a JPEG goes to the model as it is if the model and the photo allow it. ``place``: makes
    requests that the pixels are written into. ``room``: reserves the memory of the photo, entered until its pixels are
    in the model's frame.
    Raises BadRequest if a class is unknown or the image is broken, UnsupportedMedia or TooLarge if the image is not
    accepted, ContractViolation if the model's answer breaks the contract, and whatever ``room`` and ``predict`` raise.
    """
    clock = Clock()
    wanted = class_ids(options.class_names, contract)
    prediction, frame, way = _ask(data, contract, predict, limits, transport, place, room, clock)
    with clock.stage("unmold"):
        found = select(prediction.outputs[contract.detections.name][0], options, wanted)
        found, boxes, clipped = place_in_image(found, frame, options, contract)
        masks = gather_masks(prediction.outputs[contract.masks.name][0], found, contract)
        unmolded = unmold_masks(masks, boxes, clipped, frame.image_hw, options.mask_threshold)
    with clock.stage("encode"):
        encoded = encode(unmolded)
    instances = build_instances(found, unmolded, encoded, contract)
    return Result(
        frame.image_hw,
        prediction.version,
        instances,
        clock.durations_s,
        prediction.up_bytes,
        prediction.down_bytes,
        prediction.repeats,
        way,
    )


def _ask(  # noqa: PLR0917 - what segment is given
    data: bytes,
    contract: ModelContract,
    predict: Predict,
    limits: Limits,
    transport: Transport,
    place: Place | None,
    room: AbstractContextManager[Reserve],
    clock: Clock,
) -> tuple[Prediction, mold.Frame, Way]:
    """Return the model's prediction, the Frame of the photo, and the way that the image went."""
    way = SETTING
    if transport == "jpeg":
        try:
            with clock.stage("decode"):
                inputs, frame = encode_undecoded(data, contract, limits)
            with AS_JPEG.told(), clock.stage("predict"):
                return predict(inputs), frame, AS_JPEG
        except Unfit as error:
            way = Way("int8", str(error))
        except RequestRefused:  # a JPEG that cannot be decoded, or a replica of another version: int8 tells them apart
            way = Way("int8", "the model refused the JPEG")
    with way.told():
        with room as reserve:
            ask, frame = _mold(data, contract, predict, limits, place, reserve, clock)
        with clock.stage("predict"):
            return ask(), frame, way


def _mold(  # noqa: PLR0917 - what segment is given
    data: bytes,
    contract: ModelContract,
    predict: Predict,
    limits: Limits,
    place: Place | None,
    reserve: Reserve,
    clock: Clock,
) -> tuple[Callable[[], Prediction], mold.Frame]:
    """Return the call of the model, and the Frame of the photo. No array of pixels outlives this function."""
    image = PlacedPixels(place, contract.image) if place and contract.takes_pixels else None
    with clock.stage("decode"):
        photo = decode_image(
            data,
            limits,
            lambda size_hw: mold.resize_rule(size_hw, contract.resize).resized_hw,
            reserve,
            image.memory if image else turbo.allocate,
        )
    with clock.stage("mold"):
        molded, frame = mold.mold(photo, contract.resize, contract.image.padded)
        del photo  # frees its memory before more is taken
        if image:
            return image.encode(molded).predict, frame
        return partial(predict, encode_inputs(molded, frame, contract)), frame


class PlacedPixels:
    """Pixels that become codes at their place in a request: decoded there, if they are used as they are."""

    def __init__(self, place: Place, spec: ImageInput) -> None:
        self._place = place
        self._spec = spec
        self._call: Placed | None = None

    def memory(self, shape: tuple[int, int, int]) -> npt.NDArray[np.uint8]:
        """Return memory for pixels [h, w, 3] in a request."""
        self._call = self._place_call(shape[:2])
        pixels: npt.NDArray[np.uint8] = self._call.codes.view(np.uint8)[0]
        return pixels

    def encode(self, molded: npt.NDArray[np.uint8]) -> Placed:
        """Return the call for pixels uint8 [h, w, 3]."""
        if self._call is None or not np.may_share_memory(molded, self._call.codes):
            self._call = self._place_call(molded.shape[:2])
        quantize.quantize_losslessly(molded, self._call.codes[0])
        return self._call

    def _place_call(self, size_hw: Size) -> Placed:
        return self._place(size_hw, size_input(size_hw, self._spec))


def encode_undecoded(data: bytes, contract: ModelContract, limits: Limits) -> tuple[Inputs, mold.Frame]:
    """Return the inputs of the model's signature for JPEGs, and the Frame of the photo, which is not decoded.

    Raises Unfit if the model has no such signature, or if the image has to go as int8.
    """
    if not isinstance(contract.jpeg, JpegInput):
        raise Unfit("the model takes no JPEG")
    photo = undecoded.read(data, limits)
    frame = mold.resize_rule(photo.size_hw, contract.resize)
    if len(photo.data) >= 3 * math.prod(frame.resized_hw):
        raise Unfit("the JPEG has no fewer bytes than the int8 tensor")
    orientation = np.array([photo.orientation], np.int32)
    return {contract.jpeg.image: photo.data, contract.jpeg.orientation: orientation}, frame


def encode_inputs(molded: Array, frame: mold.Frame, contract: ModelContract) -> dict[str, Array]:
    """Return the model's input tensors by name, each with a batch of one, from RGB uint8 [h, w, 3]."""
    inputs = {contract.image.name: quantize.quantize_image(molded, contract.image)[None]}
    inputs |= size_input(molded.shape[:2], contract.image)
    if contract.meta is not None:
        inputs[contract.meta.name] = mold.meta(frame, contract.meta.num_classes)
    if contract.anchors is not None:
        inputs[contract.anchors.name] = mold.anchors(frame.frame_hw, contract.anchors)
    return inputs


def size_input(size_hw: Size, spec: ImageInput) -> dict[str, Array]:
    """Return the input with the size of the image by its name, {} if the model takes none."""
    return {spec.size_name: np.array([size_hw], np.int32)} if isinstance(spec.size_name, str) else {}


def build_instances(
    found: Detections, masks: Masks, encoded: Sequence[Any], contract: ModelContract
) -> tuple[Instance, ...]:
    """Return an Instance for each detection and its encoded mask."""
    columns = zip(
        found.classes.tolist(), found.scores.tolist(), masks.clipped.tolist(), masks.spans.areas(), encoded, strict=True
    )
    return tuple(
        Instance(class_id, contract.labels.get(class_id), score, (y1, x1, y2, x2), area, mask)
        for class_id, score, (y1, x1, y2, x2), area, mask in columns
    )
