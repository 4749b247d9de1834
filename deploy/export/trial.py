"""Pictures that a model is tried on, and the inputs that a new export runs on before it is put in place."""

import io
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw
from skimage import data

from deploy.export.report.files import list_images, readable_images
from deploy.export.source import Source
from handler.errors import SegmentError
from handler.image.decode import Limits, Photo, decode_image
from handler.model import mold

Array = npt.NDArray[Any]
SQUARE_PX = 32
PICTURES = 8
PHOTOGRAPHS = ("chelsea.png", "coins.png", "astronaut.png", "coffee.png", "motorcycle_left.png", "rocket.jpg")
DRAWINGS = ((320, 200), (240, 400))


def pixels_of(source: Source, photo: Photo) -> npt.NDArray[np.uint8]:
    """Return a photo uint8 [h, w, 3] as the function resizes it for the int8 export."""
    return mold.mold(photo, source.resize, padded=False)[0]


def codes_of(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.int8]:
    """Return pixels as int8 of the same shape, code = pixel - 128."""
    return (pixels ^ np.uint8(0x80)).view(np.int8)


def photographs(folder: Path | None) -> list[Photo]:
    """Return at most PICTURES photos: the first files of a folder, or else the exporter's own.

    Raises ExportError if the folder has no image that can be read.
    """
    if folder is None:
        return list(own_photographs().values())
    paths, others = list_images(folder)
    photos: list[Photo] = []
    for path in paths:
        with suppress(SegmentError, OSError):
            photos.append(decode_image(path.read_bytes(), Limits()))
        if len(photos) == PICTURES:
            break
    if not photos:
        readable_images(paths, others, folder)  # raises ExportError, with the reasons
    return photos


@cache
def own_photographs() -> Mapping[str, Photo]:
    """Return the exporter's own PICTURES by name: well-known photographs and two drawings."""
    images = {name: Image.open(Path(data.data_dir) / name).convert("RGB") for name in PHOTOGRAPHS}
    images |= {f"drawing {width} x {height}": _drawing(width, height) for width, height in DRAWINGS}
    return {name: Photo.of(image) for name, image in images.items()}


def _drawing(width: int, height: int) -> Image.Image:
    """Return a circle, a square and a triangle on grey."""
    image = Image.new("RGB", (width, height), (110, 110, 110))
    draw, side = ImageDraw.Draw(image), min(width, height) // 3
    left, low = width // 10, height // 2
    draw.ellipse((left, height // 10, left + side, height // 10 + side), fill=(220, 60, 50))
    draw.rectangle((width // 2, height // 8, width // 2 + side, height // 8 + side), fill=(40, 90, 210))
    draw.polygon([(left, low + side), (left + side, low + side), (left + side // 2, low)], fill=(240, 220, 70))
    return image


def picture(source: Source) -> npt.NDArray[np.uint8]:
    """Return an image uint8 [h, w, 3] of the largest size that a client sends: grey squares on a slope."""
    resize = source.resize
    height, width = resize.frame_hw if isinstance(resize.frame_hw, tuple) else (resize.max_dim, resize.max_dim)
    y, x = np.mgrid[:height, :width]
    grey = (y // SQUARE_PX + x // SQUARE_PX) % 2 * 96 + (x + y) * 128 // (height + width)
    return np.repeat(grey.astype(np.uint8)[..., None], 3, axis=2)


def int8_inputs(source: Source, *, image_size: bool = False) -> dict[str, Array]:
    """Return the input of an int8 export: int8 [1, h, w, 3], code = pixel - 128, and perhaps its size int32 [1, 2]."""
    codes = codes_of(picture(source))
    size = {"image_size": np.array([codes.shape[:2]], np.int32)} if image_size else {}
    return {"input_image": codes[None], **size}


def jpeg_inputs(source: Source) -> dict[str, Array | bytes]:
    """Return the inputs of an int8 export's signature for JPEGs: the same picture."""
    encoded = io.BytesIO()
    Image.fromarray(picture(source)).save(encoded, "JPEG")
    return {"image_jpeg": encoded.getvalue(), "orientation": np.ones(1, np.int32)}


def matterport_inputs(source: Source, image_type: type[np.generic]) -> dict[str, Array]:
    """Return the inputs of an export that leaves padding, mean, meta and anchors to its client."""
    settings = source.settings
    molded, frame = mold.mold(Photo.of(Image.fromarray(picture(source))), settings.resize, padded=True)
    centred = molded.astype(np.float32) - np.asarray(settings.mean, np.float32)
    return {
        "input_image": np.clip(centred, -128, 127).astype(image_type)[None],
        "input_image_meta": mold.meta(frame, source.num_classes),
        "input_anchors": mold.anchors(frame.frame_hw, settings.anchors),
    }
