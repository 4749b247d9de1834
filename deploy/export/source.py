"""What is exported: a Mask R-CNN with Matterport's inputs and outputs, and the settings its graph does not tell."""

from __future__ import annotations

import importlib
import inspect
from dataclasses import dataclass
from pathlib import Path

import keras
import tensorflow as tf

from handler.contract import MatterportSettings

INPUTS = ("input_image", "input_image_meta", "input_anchors")
OUTPUTS = ("mrcnn_detection", "mrcnn_mask")


class ExportError(Exception):
    """The source or the target is not what an export needs; the message says what was expected and what came."""


@dataclass(frozen=True)
class Source:
    """A Keras model with inputs INPUTS and outputs OUTPUTS.

    input_image float32 (b, H, W, 3), RGB minus `settings.mean`; input_image_meta float32 (b, 12 + classes);
    input_anchors float32 (b, A, 4), normalised. mrcnn_detection float32 (b, N, 6); mrcnn_mask float32
    (b, N, h, w, classes), probabilities.
    """

    model: keras.Model
    settings: MatterportSettings
    description: str

    @property
    def num_classes(self) -> int:
        """Classes with the background, from the shape of input_image_meta."""
        return int(self.model.inputs[1].shape[-1]) - 12

    def __call__(self, image: tf.Tensor, meta: tf.Tensor, anchors: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return (mrcnn_detection, mrcnn_mask) of one molded batch."""
        outputs = self.model([image, meta, anchors], training=False)
        return outputs["mrcnn_detection"], outputs["mrcnn_mask"]


def from_builder(builder: str, weights: Path, settings: MatterportSettings) -> Source:
    """Build the model of `package.module:function` and load its Keras weights file.

    Raises:
        ExportError: no such builder or file, weights of another network, other inputs, outputs or number of labels.
    """
    module_name, _, function_name = builder.partition(":")
    try:
        build = getattr(importlib.import_module(module_name), function_name)
        inspect.signature(build).bind()
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        wanted = "package.module:function that can be called without arguments"
        raise ExportError(f"--builder must be {wanted}, got {builder}: {error}") from error
    if not weights.is_file():
        raise ExportError(f"--weights must be a Keras weights file, got {weights}, which does not exist")
    model = build()  # what goes wrong inside is the builder's own, traceback and all
    if not isinstance(model, keras.Model):
        raise ExportError(f"--builder must return a Keras model, got {type(model).__name__} from {builder}")
    names = tuple(tensor.name for tensor in model.inputs)
    outputs = tuple(sorted(model.output)) if isinstance(model.output, dict) else type(model.output).__name__
    if names != INPUTS or outputs != OUTPUTS:
        raise ExportError(
            f"the model must have inputs {INPUTS} and a dict of outputs {OUTPUTS}, got {names}, {outputs}"
        )
    try:
        model.load_weights(weights)
    except (ValueError, OSError) as error:
        raise ExportError(f"--weights must fit the model of {builder}, got {weights}: {error}") from error
    source = Source(model, settings, f"{builder} {weights.name}")
    if len(settings.labels) not in (0, source.num_classes - 1):
        wanted = f"{source.num_classes - 1} names, one for each class of the model but the background"
        raise ExportError(f"--labels must have {wanted}, got {len(settings.labels)}")
    return source
