"""An image into the model's frame, and boxes back out of it: Matterport Mask R-CNN's geometry.

Sizes are (height, width) in pixels, boxes y1, x1, y2, x2 with y2, x2 exclusive. Pixel centres lie at half-integers.
Matterport's normalised boxes divide by size - 1 and shift the exclusive corner by one: ``(b - [0, 0, 1, 1]) / [H-1,
W-1, H-1, W-1]``. Source: matterport/Mask_RCNN, mrcnn/utils.py and mrcnn/model.py.

Two departures. Upstream resizes against a black border, which darkens the outermost pixels of an enlarged image; here
the edge pixel is repeated. Upstream ignores the longest side in mode ``pad64``; here it is a limit in every mode, or a
panorama would become a tensor of any size.
"""

import functools
import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from handler.image.decode import SIDEWAYS, Photo
from handler.model.contract import AnchorInput, Resize
from handler.types import Boxes, Size

PAD_MULTIPLE = 64
EXCLUSIVE = np.array([0, 0, 1, 1], np.float64)
FAR_PX = 1e6  # boxes further out than this are cut: they cannot matter and would overflow


@dataclass(frozen=True, slots=True)
class Frame:
    """Where an image of ``image_hw`` lies in the model's frame: scaled to ``resized_hw``, centred in ``frame_hw``."""

    scale: float
    image_hw: Size
    resized_hw: Size
    frame_hw: Size

    @property
    def window(self) -> tuple[int, int, int, int]:
        """The image's place in the frame: top, left, bottom, right; bottom and right exclusive."""
        top = (self.frame_hw[0] - self.resized_hw[0]) // 2
        left = (self.frame_hw[1] - self.resized_hw[1]) // 2
        return top, left, top + self.resized_hw[0], left + self.resized_hw[1]


def resize_rule(size_hw: Size, resize: Resize) -> Frame:
    """Return the frame for an image of ``size_hw``: enlarge to min_dim or min_scale, but never past max_dim.

    Rounding is Python's, half to even. A side never falls below one pixel.
    """
    shorter, longer = min(size_hw), max(size_hw)
    scale = max(1.0, resize.min_dim / shorter, resize.min_scale)
    if round(longer * scale) > resize.max_dim:
        scale = resize.max_dim / longer
    height, width = (max(1, round(side * scale)) for side in size_hw)
    frames = {
        "square": (resize.max_dim, resize.max_dim),
        "pad64": (_multiple(height), _multiple(width)),
        "fit": (height, width),
    }
    return Frame(scale=scale, image_hw=size_hw, resized_hw=(height, width), frame_hw=frames[resize.mode])


def _multiple(side: int) -> int:
    return math.ceil(side / PAD_MULTIPLE) * PAD_MULTIPLE


def mold(photo: Photo, resize: Resize, padded: bool) -> tuple[npt.NDArray[np.uint8], Frame]:
    """Return the photo as uint8 [h, w, 3], resized, where ``padded`` centred in a frame of zeros, and its Frame.

    It is turned after it is resized: that is the same and moves fewer pixels.
    """
    frame = resize_rule(photo.size_hw, resize)
    size_hw = frame.resized_hw[::-1] if photo.turn in SIDEWAYS else frame.resized_hw
    small = resize_image(photo.image, size_hw, photo.stored_hw)
    resized = np.asarray(small if photo.turn is None else small.transpose(photo.turn))
    if not padded:
        return resized, frame
    top, left, bottom, right = frame.window
    molded = np.zeros((*frame.frame_hw, 3), np.uint8)
    molded[top:bottom, left:right] = resized
    return molded, frame


def resize_image(image: Image.Image, size_hw: Size, extent_hw: tuple[float, float] | None = None) -> Image.Image:
    """Return the RGB image resized bilinearly to ``size_hw`` without anti-aliasing, truncated to whole values.

    ``extent_hw``: how much of it to take, in its pixels, all by default. ``Image.resize`` would widen its filter
    when it shrinks, which the network never saw in training.
    """
    height, width = extent_hw or (image.height, image.width)
    if (height, width) == size_hw == (image.height, image.width):
        return image
    scale_y, scale_x = height / size_hw[0], width / size_hw[1]
    result = Image.new("RGB", size_hw[::-1])

    def fill(top: int, bottom: int) -> None:
        rows = (scale_x, 0.0, 0.0, 0.0, scale_y, scale_y * top)
        size = (size_hw[1], bottom - top)
        result.paste(image.transform(size, Image.Transform.AFFINE, rows, Image.Resampling.BILINEAR), (0, top))

    middle = size_hw[0] // 2
    with ThreadPoolExecutor(1) as other:  # Pillow takes 20 ns a pixel for this, and lets others run meanwhile
        lower = other.submit(fill, middle, size_hw[0])
        fill(0, middle)
        lower.result()
    return result


def normalise(boxes: npt.NDArray[Any], size_hw: Size) -> npt.NDArray[np.float64]:
    """Return pixel boxes [..., 4] in Matterport's normalised coordinates of a frame of ``size_hw``."""
    return (np.asarray(boxes, np.float64) - EXCLUSIVE) / _extent(size_hw)


def unmold_boxes(boxes: npt.NDArray[np.float32], frame: Frame) -> Boxes:
    """Return the model's boxes [N, 4], normalised to the frame, as image pixels int64 [N, 4].

    They may reach over the image's edge or be empty: the mask is sampled over the whole box, then :func:`clip_boxes`.
    """
    window = normalise(np.asarray(frame.window), frame.frame_hw)
    shift, size = np.tile(window[:2], 2), np.tile(window[2:] - window[:2], 2)
    degenerate = size == 0  # a window one pixel wide has no extent in these coordinates: it maps to the whole axis
    inside = (boxes.astype(np.float64) - shift) / np.where(degenerate, 1.0, size)
    inside = np.where(degenerate, np.array([0.0, 0.0, 1.0, 1.0]), inside)
    return _whole(inside * _extent(frame.image_hw) + EXCLUSIVE)


def scale_boxes(boxes: npt.NDArray[np.float32], image_hw: Size) -> Boxes:
    """Return boxes [N, 4], shares 0..1 of the image, as image pixels int64 [N, 4]; they may reach over its edge."""
    height, width = image_hw
    return _whole(boxes.astype(np.float64) * [height, width, height, width])


def _whole(boxes: npt.NDArray[np.float64]) -> Boxes:
    return np.clip(np.around(boxes), -FAR_PX, FAR_PX).astype(np.int64)


def clip_boxes(boxes: Boxes, image_hw: Size) -> Boxes:
    """Return boxes [N, 4] cut to the image; what lies outside becomes empty."""
    return np.clip(boxes, 0, np.array([*image_hw, *image_hw]))


def _extent(size_hw: Size) -> npt.NDArray[np.float64]:
    height, width = size_hw
    return np.array([height - 1, width - 1, height - 1, width - 1], np.float64)


def meta(frame: Frame, num_classes: int, image_id: int = 0) -> npt.NDArray[np.float32]:
    """Return ``input_image_meta`` float32 [1, 12 + num_classes]: id, sizes, window, scale, no active classes."""
    head = [image_id, *frame.image_hw, 3, *frame.frame_hw, 3, *frame.window, frame.scale]
    return np.array([head + [0] * num_classes], np.float32)


def anchors(frame_hw: Size, spec: AnchorInput) -> npt.NDArray[np.float32]:
    """Return ``input_anchors`` float32 [1, A, 4], normalised to the frame; read-only, shared between calls.

    Order: level, y, x, ratio. Example: 1024 x 1024 with Matterport's settings has A = 261888.
    """
    return _anchors(frame_hw, spec.scales, spec.ratios, spec.strides)


@functools.lru_cache(maxsize=8)
def _anchors(
    frame_hw: Size, scales: tuple[float, ...], ratios: tuple[float, ...], strides: tuple[int, ...]
) -> npt.NDArray[np.float32]:
    root = np.sqrt(np.asarray(ratios, np.float64))
    levels = []
    for scale, stride in zip(scales, strides, strict=True):
        centre_y = np.arange(math.ceil(frame_hw[0] / stride)) * stride
        centre_x = np.arange(math.ceil(frame_hw[1] / stride)) * stride
        y, x, half_h = np.meshgrid(centre_y, centre_x, scale / root / 2, indexing="ij")
        half_w = np.broadcast_to(scale * root / 2, half_h.shape)
        levels.append(np.stack([y - half_h, x - half_w, y + half_h, x + half_w], axis=-1).reshape(-1, 4))
    normalised = normalise(np.concatenate(levels), frame_hw).astype(np.float32)[None]
    normalised.flags.writeable = False
    return normalised
