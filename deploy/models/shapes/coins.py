"""A real photograph to judge the model on: scikit-image's data.coins(), 24 coins, with masks from a watershed."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from skimage import data, filters, segmentation

COINS = 24
DARK, BRIGHT = 30, 150  # grey levels that are surely ground and surely coin
MIN_COIN_PX = 500


def photo(width: int | None = None) -> NDArray[np.uint8]:
    """Return the photograph uint8 [h, w, 3], grey in RGB: 384 pixels wide, or resampled to ``width``."""
    image = Image.fromarray(data.coins()).convert("RGB")
    if width is not None:
        image = image.resize((width, round(image.height * width / image.width)), Image.Resampling.BICUBIC)
    return np.asarray(image)


def truth(size_hw: tuple[int, int]) -> NDArray[np.bool_]:
    """Return masks bool [24, h, w] from a watershed of the photograph's gradient, scaled to ``size_hw``.

    Raises RuntimeError if the watershed does not separate 24 coins.
    """
    grey = data.coins()
    markers = np.where(grey < DARK, 1, np.where(grey > BRIGHT, 2, 0))
    coin = segmentation.watershed(filters.sobel(grey), markers) == 2
    labels, _ = ndimage.label(ndimage.binary_fill_holes(coin))
    sizes = np.bincount(labels.ravel())
    chosen = [i for i in range(1, len(sizes)) if sizes[i] >= MIN_COIN_PX]
    if len(chosen) != COINS:
        raise RuntimeError(f"the watershed must find {COINS} coins, got {len(chosen)}")
    height, width = size_hw
    return np.stack(
        [np.asarray(Image.fromarray(labels == i).resize((width, height), Image.Resampling.NEAREST)) for i in chosen]
    )
