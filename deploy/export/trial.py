"""The inputs that a new export runs on before it is put in place: a picture of full size, as a client sends it."""

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from deploy.export.source import Source
from handler.image.decode import Photo
from handler.model import mold

Array = npt.NDArray[Any]
SQUARE_PX = 32


def picture(source: Source) -> npt.NDArray[np.uint8]:
    """Return an image uint8 [h, w, 3] of the largest size that a client sends: grey squares on a slope."""
    resize = source.settings.resize
    height, width = resize.frame_hw if isinstance(resize.frame_hw, tuple) else (resize.max_dim, resize.max_dim)
    y, x = np.mgrid[:height, :width]
    grey = (y // SQUARE_PX + x // SQUARE_PX) % 2 * 96 + (x + y) * 128 // (height + width)
    return np.repeat(grey.astype(np.uint8)[..., None], 3, axis=2)


def int8_inputs(source: Source) -> dict[str, Array]:
    """Return the input of an int8 export: int8 [1, h, w, 3], code = pixel - 128."""
    return {"input_image": (picture(source) ^ np.uint8(0x80)).view(np.int8)[None]}


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
