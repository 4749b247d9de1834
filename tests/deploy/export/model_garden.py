"""Save Mask R-CNNs of the Model Garden by its own exporter, with its own answers; runs in an environment of its own.

``python model_garden.py IMAGE.npy FOLDER``: for each variant a SavedModel ``FOLDER/NAME/1``, and ``FOLDER/NAME.npz``
with boxes in pixels of the image (y1, x1, y2, x2), classes, scores, masks, and the masks as its own code pastes them.
"""

import sys
from pathlib import Path

import numpy as np
import tensorflow as tf
import tf_keras
from official.core import exp_factory
from official.vision import registry_imports  # noqa: F401 - registers the experiments
from official.vision.ops import mask_ops
from official.vision.serving import detection, export_saved_model_lib

FRAME_HW = [512, 512]
VARIANTS = {"dynamic size, batch 1": 1, "dynamic size, free batch": None, "fixed size, batch 1": 1}


def export_module(batch, image):
    """Return the exporter's module around a ResNet-50-FPN with the library's own first weights, seeded."""
    params = exp_factory.get_exp_config("maskrcnn_resnetfpn_coco")
    params.task.model.input_size = [*FRAME_HW, 3]
    params.task.model.norm_activation.use_sync_bn = False
    params.task.model.norm_activation.norm_momentum = 0.0  # one image in training sets means and variances
    params.task.model.detection_generator.pre_nms_score_threshold = 0.0  # weights that are not trained are never sure
    tf_keras.utils.set_random_seed(0)
    module = detection.DetectionModule(
        params=params, batch_size=batch, input_image_size=FRAME_HW, input_type="image_tensor"
    )
    pixels = tf.constant(image[None])
    module.inference_from_image_tensors(pixels)
    frame, _, _ = module.preprocess(pixels)
    module.model.decoder(module.model.backbone(frame, training=True), training=True)
    for variable in module.model.variables:
        if "kernel" in variable.name:
            variable.assign(sharpened(variable))
    return params, module


def sharpened(kernel):
    """Return a kernel with which scores differ, and masks are as steep and smooth as those of trained networks."""
    if "mask-conv" in kernel.name or "mask-upsampling" in kernel.name:
        places = np.prod(kernel.shape[:2])
        return tf.reduce_mean(kernel, [0, 1], keepdims=True) * tf.ones_like(kernel) * np.sqrt(places)
    factors = {"detection-scores": 20.0, "mask-logits": 4.0}
    return kernel * next((factor for layer, factor in factors.items() if layer in kernel.name), 1.0)


def save(name, batch, image, folder):
    """Save one variant, and what it finds in the image."""
    params, module = export_module(batch, image)
    target = folder / name / "1"
    if name.startswith("fixed"):
        spec = tf.TensorSpec([1, *image.shape], tf.uint8, "inputs")
        signature = module.inference_from_image_tensors.get_concrete_function(spec)
        tf.saved_model.save(module, str(target), {"serving_default": signature})
    else:
        export_saved_model_lib.export_inference_graph(
            "image_tensor", batch, FRAME_HW, params, None, str(target), export_module=module
        )
    found = {
        key: value.numpy()[0] for key, value in module.inference_from_image_tensors(tf.constant(image[None])).items()
    }
    count = int(found["num_detections"])
    boxes, masks = found["detection_boxes"][:count], found["detection_masks"][:count]
    boxes /= np.tile(found["image_info"][2], 2)
    y1, x1, y2, x2 = boxes.T
    xywh = np.stack([x1, y1, x2 - x1, y2 - y1], axis=1)
    np.savez(
        folder / f"{name}.npz",
        boxes=boxes,
        classes=found["detection_classes"][:count],
        scores=found["detection_scores"][:count],
        masks=masks,
        pasted=mask_ops.paste_instance_masks(masks, xywh, *image.shape[:2]).astype(bool),
        pasted_v2=mask_ops.paste_instance_masks_v2(masks, xywh, *image.shape[:2]).astype(bool),
    )


if __name__ == "__main__":
    for variant, size in VARIANTS.items():
        save(variant, size, np.load(sys.argv[1]), Path(sys.argv[2]))
