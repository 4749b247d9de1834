"""Save Mask R-CNNs by the Model Garden's own code, with seeded weights, and what they find in a photograph.

It runs in an environment of its own, which has the Model Garden: ``python model_garden.py FOLDER``. The folder has
``photo.npy``, uint8 [1024, 1280, 3]. For a model of fixed size it has ``small.npy``, the left part of the photo, uint8
[256, 256, 3]. Each variant gets a folder there, with its SavedModel and ``answer.npz``, in pixels of the photo.
"""

import sys
from pathlib import Path

import numpy as np
import tensorflow as tf
from official.core import exp_factory
from official.vision import registry_imports  # noqa: F401 - it registers the models
from official.vision.ops import mask_ops, preprocess_ops
from official.vision.serving import detection, export_saved_model_lib

SIDE = 256
VARIANTS = {  # input type and batch of the Model Garden's exporter
    "any size, batch 1": ("image_tensor", 1),
    "any size, free batch": ("image_tensor", None),
    "fixed size, batch 1": ("tflite", 1),
}
DEVIATIONS = {  # of what the last layers give; steep masks rise within a cell or two, as those of a trained model
    "rpn-scores": 2.0,
    "rpn-boxes": 0.2,
    "detection-scores": 3.0,
    "detection-boxes": 0.2,
    "mask-logits": 6.0,
}


def parameters():
    """Return the settings of a Mask R-CNN with ResNet and FPN: the smallest ResNet, four classes, few proposals.

    The graph has a loop for each class, so 91 of them would take minutes to save.
    """
    params = exp_factory.get_exp_config("maskrcnn_resnetfpn_coco")
    model = params.task.model
    model.num_classes = 4
    model.input_size = [SIDE, SIDE, 3]
    model.backbone.resnet.model_id = 18
    model.roi_generator.test_num_proposals = 100
    model.detection_generator.max_num_detections = 20
    return params


def normalised(pixels):
    """Return pixels uint8 [H, W, 3] as a batch of one, as the Model Garden's models see it."""
    image = tf.cast(pixels[None], tf.float32)
    return preprocess_ops.normalize_image(image, offset=preprocess_ops.MEAN_RGB, scale=preprocess_ops.STDDEV_RGB)


def seed(model, small):
    """Set the kernels of a model from a seed, so that it finds different objects in a photo."""

    def run():
        return model.call(normalised(small), image_shape=tf.fill([1, 2], float(SIDE)), training=False)

    run()  # makes the variables of the heads
    rng = np.random.default_rng(0)
    last = {}
    for variable in model.trainable_variables:
        if "kernel" in variable.name:
            fan_in = np.prod(variable.shape[:-1])
            kernel = rng.normal(0, np.sqrt(1 / fan_in), variable.shape)
            if "mask-upsampling" in variable.name:
                kernel[:] = kernel[:1, :1]  # each value becomes four alike
            variable.assign(kernel)
            last |= {name: variable for name in DEVIATIONS if name in variable.name}
    for name, wanted in DEVIATIONS.items():  # in the order in which one depends on the other
        last[name].assign(last[name] * 1e-3)
        last[name].assign(last[name] * (wanted / logits(run())[name].std()))


def logits(outputs):
    """Return what the last layers give, by their names."""
    masks = outputs["detection_masks"].numpy()
    return {
        "rpn-scores": np.concatenate([np.ravel(one) for one in outputs["rpn_scores"].values()]),
        "rpn-boxes": np.concatenate([np.ravel(one) for one in outputs["rpn_boxes"].values()]),
        "detection-scores": outputs["cls_outputs"].numpy(),
        "detection-boxes": outputs["box_outputs"].numpy(),
        "mask-logits": np.log(masks / (1 - masks)),
    }


def save(folder, input_type, batch, photo, small):
    """Save one variant and its answer to a photo."""
    params = parameters()
    module = detection.DetectionModule(
        params=params, batch_size=batch, input_image_size=[SIDE, SIDE], input_type=input_type
    )
    seed(module.model, small)
    export_saved_model_lib.export_inference_graph(
        input_type=input_type,
        batch_size=batch,
        input_image_size=[SIDE, SIDE],
        params=params,
        checkpoint_path=None,
        export_dir=str(folder),
        export_module=module,
    )
    is_fixed = input_type == "tflite"
    image = normalised(small) if is_fixed else tf.constant(photo[None])
    outputs = tf.saved_model.load(str(folder)).signatures["serving_default"](inputs=image)
    answer = {name: value.numpy()[0] for name, value in outputs.items()}
    height, width = (photo.shape[0], photo.shape[0]) if is_fixed else photo.shape[:2]
    scale = [SIDE / height, SIDE / width] if is_fixed else answer["image_info"][2]
    answer["detection_boxes"] /= np.tile(scale, 2)
    count = int(answer["num_detections"])
    y1, x1, y2, x2 = answer["detection_boxes"][:count].T
    boxes = np.stack([x1, y1, x2 - x1, y2 - y1], 1)
    answer["pasted"] = mask_ops.paste_instance_masks(answer["detection_masks"][:count], boxes, height, width)
    np.savez(folder / "answer.npz", **answer)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    for name, variant in VARIANTS.items():
        print(name, flush=True)  # noqa: T201
        save(folder / name, *variant, np.load(folder / "photo.npy"), np.load(folder / "small.npy"))
