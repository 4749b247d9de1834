"""How masks of the function differ from those that upstream's own code paints from the same output of a model.

``python -m tests.deploy.export.unmold_fidelity`` prints a table: the bundled model on the photograph of coins, which
the function enlarges or shrinks for the model. The three procedures are written out from their publications.
"""

import sys

import cv2
import numpy as np
import tensorflow as tf
from skimage.transform import resize

from deploy.export.report.segment import encode_png, in_tensorflow
from deploy.models.shapes import coins
from deploy.models.shapes.export import source
from deploy.tools.tables import table
from tests.support.masks import paint
from tests.support.readers import coco_decode, iou

WIDTHS = (192, 384, 768, 1536)  # the model's own is 512


def promised(mask, box, image_hw):
    """Sample the mask at the centres of pixels; outside of the mask, its edge counts."""
    return paint(mask, box, image_hw) >= 0.5


def matterport(mask, box, image_hw):
    """Resize as ``utils.unmold_mask`` does: everything around the mask is 0, the black border."""
    y1, x1, y2, x2 = box
    whole = np.zeros(image_hw, bool)
    whole[y1:y2, x1:x2] = resize(mask, (y2 - y1, x2 - x1), order=1, mode="constant", anti_aliasing=False) >= 0.5
    return whole


def object_detection(mask, box, image_hw):
    """Crop as ``ops.reframe_box_masks_to_image_masks`` does: the centres of the mask's corners lie on the image's."""
    y1, x1, y2, x2 = np.array(box) / np.tile(image_hw, 2)
    height, width = y2 - y1, x2 - x1
    back = [-y1 / height, -x1 / width, (1 - y1) / height, (1 - x1) / width]
    return tf.image.crop_and_resize(mask[None, ..., None], [back], [0], image_hw).numpy()[0, ..., 0] > 0.5


def model_garden(mask, box, image_hw):
    """Paste as ``mask_ops.paste_instance_masks`` does: a border of zeros, and boxes whose last pixel is included."""
    y1, x1, y2, x2 = box
    side = len(mask)
    padded, scale = np.pad(mask, 1), (side + 2) / side
    centre_yx, half_hw = np.array([y1 + y2, x1 + x2]) / 2, np.array([y2 - y1, x2 - x1]) / 2 * scale
    top, left = (centre_yx - half_hw).astype(np.int32)
    bottom, right = (centre_yx + half_hw).astype(np.int32)
    painted = cv2.resize(padded, (int(right - left + 1), int(bottom - top + 1))) > 0.5
    whole = np.zeros(image_hw, bool)
    into = slice(max(top, 0), min(bottom + 1, image_hw[0])), slice(max(left, 0), min(right + 1, image_hw[1]))
    whole[into] = painted[into[0].start - top : into[0].stop - top, into[1].start - left : into[1].stop - left]
    return whole


PROCEDURES = {
    "promised": promised,
    "Matterport": matterport,
    "Object Detection API": object_detection,
    "Model Garden": model_garden,
}


def measure(widths=WIDTHS):
    """Return, for each width of the photograph in pixels and each procedure, the IoUs of masks with the function's."""
    segment = in_tensorflow(source())
    found = {}
    for width in widths:
        photo = coins.photo(width)
        size_hw = photo.shape[:2]
        one = segment(encode_png(photo))
        assert len(one.masks) == len(one.instances)
        ours = [coco_decode(rle).astype(bool) for rle in one.rles()]
        found[width] = {
            name: [
                iou(own, paint_as(mask, instance.box, size_hw))
                for own, mask, instance in zip(ours, one.masks, one.instances, strict=True)
            ]
            for name, paint_as in PROCEDURES.items()
        }
    return found


def describe():
    """Return the table."""
    rows = []
    for width, by_procedure in measure().items():
        cells = [f"{np.mean(ious):.4f} ({min(ious):.3f})" for ious in by_procedure.values()]
        rows.append([f"{width}", f"{len(by_procedure['promised'])}", *cells])
    return table(["width, pixels", "objects", *PROCEDURES], rows)


if __name__ == "__main__":
    sys.stdout.write(f"{describe()}\n")
