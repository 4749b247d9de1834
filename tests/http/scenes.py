"""One scene that the tests' backend answers: blobs, a hole, parts, what reaches over the edge, what is empty."""

import io

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

from handler.model.contract import ImageInput, JpegInput, MaskOutput, ModelContract, Resize

NAME, VERSION = "scene", 1  # as a model that tests.http.model writes
SIZE_HW = (300, 400)
FRAME_HW = (320, 448)  # each side rounded up to a multiple of 64
JPEG = JpegInput()
CONTRACT = ModelContract(
    schema=2,
    image=ImageInput(dtype="int8", zero_point=-128, padded=False),
    masks=MaskOutput(dtype="int8", scale=1 / 127, per_class=False),
    resize=Resize(mode="pad64", min_dim=0, max_dim=512),
    labels={1: "circle", 2: "square", 3: "ring"},
    source="test",
    jpeg=JPEG,
)
GRID = 28


def _radius():
    y, x = np.mgrid[:GRID, :GRID] - (GRID - 1) / 2
    return np.hypot(y, x)


def _field(seed):
    field = gaussian_filter(np.random.default_rng(seed).random((GRID, GRID)), 3)
    return (field - field.min()) / np.ptp(field)


def _parts():
    x = np.arange(GRID)
    return np.tile(np.clip(np.abs(x - 11) / 4 - 0.6, 0, 1), (GRID, 1))


# box (y1, x1, y2, x2, pixels of the image), class, score, probabilities
OBJECTS = [
    ((20, 30, 120, 130), 1, 0.95, 1 / (1 + np.exp(_radius() - 10))),
    ((150, 200, 280, 370), 3, 0.9, np.exp(-(((_radius() - 9) / 3) ** 2))),  # with a hole
    ((10, 180, 110, 380), 2, 0.85, _parts()),  # two parts
    ((-30, -40, 90, 60), 2, 0.8, _field(1)),  # over the corner
    ((220, 330, 330, 450), 1, 0.75, np.full((GRID, GRID), 0.9)),  # over the other corner, filling its box
    ((140, 20, 260, 160), 2, 0.7, _field(2)),
    ((200, 100, 210, 110), 1, 0.6, np.full((GRID, GRID), 0.2)),  # below the threshold everywhere
]
VISIBLE = [True, True, True, True, True, True, False]


def outputs(size_hw=SIZE_HW, frame_hw=FRAME_HW, objects=None):
    """Return the output tensors that say ``objects``, for an image that is not resized but centred in its frame."""
    objects = OBJECTS if objects is None else objects
    corner = (frame_hw[0] - size_hw[0]) // 2, (frame_hw[1] - size_hw[1]) // 2
    extent = np.array([frame_hw[0] - 1, frame_hw[1] - 1] * 2)
    detections = np.zeros((1, len(objects) + 3, 6), np.float32)
    masks = np.zeros((1, len(objects) + 3, GRID, GRID), np.int8)
    for row, (box, class_id, score, probabilities) in enumerate(objects):
        placed = np.array(box) + np.tile(corner, 2) - [0, 0, 1, 1]
        detections[0, row] = [*(placed / extent), class_id, score]
        masks[0, row] = np.rint(127 * probabilities)
    return {"mrcnn_detection": detections, "mrcnn_mask": masks}


def png(size_hw=SIZE_HW):
    """Return an encoded image of the scene's size."""
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (*size_hw, 3), np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()
