"""SavedModels as users bring them: the bundled model in TensorFlow 1's format, and small ones of other dialects."""

import numpy as np
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

v1 = tf.compat.v1
VARIABLE_SIZE = 1000  # constants from so many values on were variables once


def save_tensorflow_1(folder, float32_export):
    """Save the model of a float32 export with TensorFlow 1's builder, its weights in variables of that time.

    Its outputs are named after tensors, as usual scripts do it.
    """
    model = tf.saved_model.load(str(float32_export))
    loaded = model.signatures["serving_default"]
    frozen = convert_variables_to_constants_v2(loaded, lower_control_flow=False)
    definition = frozen.graph.as_graph_def()
    weights = {}
    for node in definition.node:
        if node.op == "Const":
            value = tf.make_ndarray(node.attr["value"].tensor)
            if value.size >= VARIABLE_SIZE and value.dtype == np.float32:
                weights[node.name] = value
    names = {tensor.name.partition(":")[0]: tensor for tensor in frozen.inputs}
    outputs = {
        name: tensor.name for name, tensor in zip(sorted(loaded.structured_outputs), frozen.outputs, strict=True)
    }
    with tf.Graph().as_default() as graph, v1.Session(graph=graph) as session:
        feeds = {name: v1.placeholder(tensor.dtype, tensor.shape, name) for name, tensor in names.items()}
        variables = {
            name: v1.get_variable(f"weights_{place}", initializer=value, use_resource=False)
            for place, (name, value) in enumerate(weights.items())
        }
        tensors = {f"{name}:0": tensor for name, tensor in {**feeds, **variables}.items()}
        found = tf.graph_util.import_graph_def(definition, tensors, list(outputs.values()), name="model")
        session.run(v1.global_variables_initializer())
        builder = v1.saved_model.builder.SavedModelBuilder(str(folder))
        signature = v1.saved_model.signature_def_utils.predict_signature_def(
            feeds, {f"{name}/Reshape_1:0": tensor for name, tensor in zip(outputs, found, strict=True)}
        )
        builder.add_meta_graph_and_variables(session, ["serve"], {"serving_default": signature})
        builder.save()
    return folder


def detections(rows, mask_hw, seed):
    """Return what a detection model finds, as NumPy: boxes 0..1 [n, 4], classes [n], scores [n], masks [n, h, w]."""
    rng = np.random.default_rng(seed)
    corners = rng.random((rows, 2)) * 0.6
    boxes = np.concatenate([corners, corners + 0.1 + rng.random((rows, 2)) * 0.3], axis=1)
    scores = np.sort(rng.random(rows))[::-1]
    masks = rng.random((rows, *mask_hw))
    classes = rng.integers(1, 91, rows)
    return boxes.astype(np.float32), classes, scores.astype(np.float32), masks.astype(np.float32)


def save_object_detection(folder, found, count, *, dynamic=False, image=tf.uint8, highest=None):
    """Save a model that answers ``found`` as the Object Detection API does, ``count`` of its rows real.

    ``dynamic``: only these rows come, and the graph cannot tell how many. Scores are multiplied with the mean of the
    image, so that its pixels matter.
    """
    boxes, classes, scores, masks = found

    @tf.function(input_signature=[tf.TensorSpec([1, None, None, 3], image, "input_tensor")])
    def serve(input_tensor):
        if highest is not None:
            tf.debugging.assert_less_equal(tf.shape(input_tensor)[1], highest, "too high")
        kept = tf.cast(tf.reduce_sum(tf.cast(input_tensor, tf.float32)) * 0, tf.int32) + count
        part = slice(None, kept) if dynamic else slice(None)
        brightness = tf.reduce_mean(tf.cast(input_tensor, tf.float32)) / 255
        return {
            "detection_boxes": tf.constant(boxes)[part][None],
            "detection_classes": tf.constant(classes, tf.float32)[part][None],
            "detection_scores": tf.constant(scores)[part][None] * brightness,
            "detection_masks": tf.constant(masks)[part][None],
            "num_detections": tf.cast(kept, tf.float32)[None],
            "raw_detection_boxes": tf.zeros([1, 300, 4]),
        }

    module = tf.Module()
    module.serve = serve
    tf.saved_model.save(module, str(folder), {"serving_default": serve})
    return folder


def save_model_garden(folder, found, count, scale, dynamic=False):
    """Save a model that answers ``found`` as the Model Garden does: in pixels of the image resized by ``scale``."""
    boxes, classes, scores, masks = found

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8, "inputs")])
    def serve(inputs):
        size = tf.cast(tf.shape(inputs)[1:3], tf.float32)
        resized = size * tf.constant(scale)
        kept = tf.cast(tf.reduce_sum(size) * 0, tf.int32) + count
        part = slice(None, kept) if dynamic else slice(None)
        return {
            "detection_boxes": (tf.constant(boxes) * tf.tile(resized, [2]))[part][None],
            "detection_classes": tf.constant(classes, tf.int32)[part][None],
            "detection_scores": tf.constant(scores)[part][None],
            "detection_masks": tf.constant(masks)[part][None],
            "num_detections": kept[None],
            "image_info": tf.stack([size, tf.math.ceil(resized), tf.constant(scale), tf.zeros(2)])[None],
        }

    module = tf.Module()
    module.serve = serve
    tf.saved_model.save(module, str(folder), {"serving_default": serve})
    return folder
