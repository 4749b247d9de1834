"""An image into the model's frame, and boxes back to the image: the geometry of Matterport's Mask R-CNN, and YOLO's.

Sizes are (height, width) in pixels. Boxes are y1, x1, y2, x2; y2 and x2 are exclusive. Pixel centres are half-integers.
Matterport's normalised boxes are ``(box - [0, 0, 1, 1]) / [H-1, W-1, H-1, W-1]``: the exclusive corner is shifted by
one, and 1 stands for the last pixel. Source: matterport/Mask_RCNN, mrcnn/utils.py and mrcnn/model.py.

*Strategy*. Scale the image to fit the frame, and centre it there; the rest of the frame is zero. The place of the image
in the frame is the window. Boxes come back normalised to the frame: subtract the window's corner, divide by its size.

Example: 480 x 640 with min_dim 800, max_dim 1024. The shorter side asks for a scale of 800 / 480 = 1.67, but the longer
side allows 1024 / 640 = 1.6. The image becomes 768 x 1024 in a frame of 1024 x 1024. The window is 128, 0, 896, 1024.

Two differences from Matterport. It resizes against a black border, which darkens the outermost pixels of an enlarged
image; here the edge pixel is repeated. In mode ``pad64`` it ignores max_dim; here max_dim is a limit in every mode, or
a panorama would become a tensor of any size.

YOLO's letterbox has the same window: the spare pixels are halved, and an odd one goes to the bottom or the right.
Source: ultralytics/ultralytics, ultralytics/data/augment.py, LetterBox.
"""

import functools
import math
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
from PIL import Image

from handler.image.colours import is_rgb, rows_to_rgb, to_rgb
from handler.image.cost import is_read_by_rows
from handler.image.decode import SIDEWAYS, Photo
from handler.model.contract import AnchorInput, Resize
from handler.types import Boxes, Size

PAD_MULTIPLE = 64
EXCLUSIVE_CORNER = np.array([0, 0, 1, 1], np.float64)
MAX_COORDINATE_PX = 1e6  # boxes are cut here: int64 would overflow, and no image is this large


class Frame(msgspec.Struct, frozen=True):
    """The place of an image ``image_hw`` in the model's frame: resized to ``resized_hw``, centred in ``frame_hw``."""

    scale: float
    image_hw: Size
    resized_hw: Size
    frame_hw: Size

    @property
    def window(self) -> tuple[int, int, int, int]:
        """The part of the frame that holds the image: y1, x1, y2, x2 in pixels."""
        top = (self.frame_hw[0] - self.resized_hw[0]) // 2
        left = (self.frame_hw[1] - self.resized_hw[1]) // 2
        return top, left, top + self.resized_hw[0], left + self.resized_hw[1]


def resize_rule(size_hw: Size, resize: Resize) -> Frame:
    """Return the Frame of an image of ``size_hw``: enlarged to min_dim or min_scale, but at most to max_dim.

    In mode ``letterbox``, it is enlarged or shrunk until it touches two sides of frame_hw. Mode ``stretch`` has no
    single scale: it is given as 1. Sides are rounded half to even, as Python does, to at least one pixel.
    """
    if isinstance(resize.frame_hw, tuple) and resize.mode == "stretch":
        return Frame(scale=1.0, image_hw=size_hw, resized_hw=resize.frame_hw, frame_hw=resize.frame_hw)
    if isinstance(resize.frame_hw, tuple):
        scale = min(frame / side for frame, side in zip(resize.frame_hw, size_hw, strict=True))
        return Frame(scale=scale, image_hw=size_hw, resized_hw=_scaled(size_hw, scale), frame_hw=resize.frame_hw)
    shorter, longer = min(size_hw), max(size_hw)
    scale = max(1.0, resize.min_dim / shorter, resize.min_scale)
    if round(longer * scale) > resize.max_dim:
        scale = resize.max_dim / longer
    height, width = _scaled(size_hw, scale)
    frames = {
        "square": (resize.max_dim, resize.max_dim),
        "pad64": (_round_up(height), _round_up(width)),
        "fit": (height, width),
    }
    return Frame(scale=scale, image_hw=size_hw, resized_hw=(height, width), frame_hw=frames[resize.mode])


def _scaled(size_hw: Size, scale: float) -> Size:
    height, width = (max(1, round(side * scale)) for side in size_hw)
    return height, width


def _round_up(side: int) -> int:
    return math.ceil(side / PAD_MULTIPLE) * PAD_MULTIPLE


def mold(photo: Photo, resize: Resize, padded: bool) -> tuple[npt.NDArray[np.uint8], Frame]:
    """Return the resized photo as RGB uint8 [h, w, 3], and its Frame. If ``padded``, zeros fill the rest of the frame.

    The photo is turned upright after it is resized: the result is the same, and fewer pixels move.
    """
    frame = resize_rule(photo.size_hw, resize)
    size_hw = frame.resized_hw[::-1] if photo.turn in SIDEWAYS else frame.resized_hw
    if isinstance(photo.pixels, np.ndarray) and photo.pixels.shape[:2] == size_hw and photo.turn is None:
        resized = photo.pixels
    else:
        small = resize_image(photo.image, size_hw, photo.stored_hw)
        resized = np.asarray(small if photo.turn is None else small.transpose(photo.turn))
    if not padded:
        return resized, frame
    top, left, bottom, right = frame.window
    molded = np.zeros((*frame.frame_hw, 3), np.uint8)
    molded[top:bottom, left:right] = resized
    return molded, frame


def resize_image(image: Image.Image, size_hw: Size, extent_hw: tuple[float, float] | None = None) -> Image.Image:
    """Return the image in RGB, resized bilinearly to ``size_hw`` without anti-aliasing; values are truncated.

    ``extent_hw``: the part of the image to use, in its pixels; all by default. ``Image.resize`` is not used, because it
    averages when it shrinks, and the network is trained without that. Of a large image in another mode, only the two
    rows that each row of the result needs become RGB.
    """
    height, width = extent_hw or (image.height, image.width)
    if is_rgb(image) or not is_read_by_rows(image.height * image.width, math.prod(size_hw)):
        image = to_rgb(image)
    if (height, width) == size_hw == (image.height, image.width):
        return image
    scale_y, scale_x = height / size_hw[0], width / size_hw[1]
    result = Image.new("RGB", size_hw[::-1])

    def fill(top: int, bottom: int) -> None:
        if is_rgb(image):
            result.paste(sample(image, bottom - top, scale_y, scale_y * top), (0, top))
            return
        for row in range(bottom - top):
            y = scale_y * (row + 0.5) + scale_y * top  # rounded as Pillow does; less a whole number, it is exact
            above = max(0, math.floor(y - 0.5))
            rows = rows_to_rgb(image, above, min(above + 2, image.height))
            result.paste(sample(rows, 1, 0.0, y - above), (0, top + row))

    def sample(source: Image.Image, rows: int, step_y: float, y: float) -> Image.Image:
        affine = (scale_x, 0.0, 0.0, 0.0, step_y, y)
        return source.transform((size_hw[1], rows), Image.Transform.AFFINE, affine, Image.Resampling.BILINEAR)

    middle = size_hw[0] // 2
    with ThreadPoolExecutor(1) as other:  # Pillow takes 20 ns a pixel and releases the GIL
        lower = other.submit(fill, middle, size_hw[0])
        fill(0, middle)
        lower.result()
    return result


def normalise(boxes: npt.NDArray[Any], size_hw: Size) -> npt.NDArray[np.float64]:
    """Return pixel boxes [..., 4] in Matterport's normalised coordinates in ``size_hw``; see the module."""
    return (np.asarray(boxes, np.float64) - EXCLUSIVE_CORNER) / _last_pixel(size_hw)


def unmold_boxes(boxes: npt.NDArray[np.float32], frame: Frame) -> Boxes:
    """Return the model's boxes [N, 4], normalised to the frame, as image pixels int64 [N, 4].

    They can extend past the image's edge or be empty. The mask covers the whole box; :func:`clip_boxes` cuts it later.
    """
    window = normalise(np.asarray(frame.window), frame.frame_hw)
    shift, size = np.tile(window[:2], 2), np.tile(window[2:] - window[:2], 2)
    degenerate = size == 0  # a window one pixel wide has size 0: map it to the whole axis
    inside = (boxes.astype(np.float64) - shift) / np.where(degenerate, 1.0, size)
    inside = np.where(degenerate, np.array([0.0, 0.0, 1.0, 1.0]), inside)
    return _to_pixels(inside * _last_pixel(frame.image_hw) + EXCLUSIVE_CORNER)


def scale_boxes(boxes: npt.NDArray[np.float32], image_hw: Size) -> Boxes:
    """Return boxes [N, 4], fractions 0..1 of the image, as image pixels int64 [N, 4]; they can extend past its edge."""
    height, width = image_hw
    return _to_pixels(boxes.astype(np.float64) * [height, width, height, width])


def _to_pixels(boxes: npt.NDArray[np.float64]) -> Boxes:
    return np.clip(np.around(boxes), -MAX_COORDINATE_PX, MAX_COORDINATE_PX).astype(np.int64)


def clip_boxes(boxes: Boxes, image_hw: Size) -> Boxes:
    """Return boxes [N, 4], cut to the image. A box outside becomes empty."""
    return np.clip(boxes, 0, np.array([*image_hw, *image_hw]))


def _last_pixel(size_hw: Size) -> npt.NDArray[np.float64]:
    height, width = size_hw
    return np.array([height - 1, width - 1, height - 1, width - 1], np.float64)


def meta(frame: Frame, num_classes: int, image_id: int = 0) -> npt.NDArray[np.float32]:
    """Return ``input_image_meta`` float32 [1, 12 + num_classes]: id, sizes, window, scale, then zeros."""
    head = [image_id, *frame.image_hw, 3, *frame.frame_hw, 3, *frame.window, frame.scale]
    return np.array([head + [0] * num_classes], np.float32)


def anchors(frame_hw: Size, spec: AnchorInput) -> npt.NDArray[np.float32]:
    """Return ``input_anchors`` float32 [1, A, 4], normalised to the frame. The array is cached and read-only.

    The order is level, y, x, ratio. Example: A = 261888 for 1024 x 1024 with Matterport's settings.
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
