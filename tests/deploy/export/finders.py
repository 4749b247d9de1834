"""Models that find a red and a blue ellipse by their pixels, in the forms in which users bring models.

What such a model should give is known from the picture alone: :func:`drawing` paints it, :func:`ellipse` says where.
"""

import numpy as np
import tensorflow as tf

from deploy.export.graphs import Graph

RED, BLUE, GROUND = (250, 20, 20), (120, 120, 250), (25, 25, 25)
SCORES = (0.9, 0.8)  # of the red and of the blue one
ROWS = 5  # of which two are real
MASK = 28
MEAN = np.array([123.7, 116.8, 103.9], np.float32)
IMAGENET = np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32)


def ellipse(box, size_hw):
    """Return the pixels [H, W] whose centres lie in the ellipse that fills box y1, x1, y2, x2."""
    y1, x1, y2, x2 = box
    y, x = np.mgrid[: size_hw[0], : size_hw[1]] + 0.5
    return ((2 * y - y1 - y2) / (y2 - y1)) ** 2 + ((2 * x - x1 - x2) / (x2 - x1)) ** 2 <= 1


def boxes_in(size_hw):
    """Return the boxes of the red and the blue ellipse in a picture."""
    height, width = size_hw
    red = (height // 10, width // 8, height // 10 + height // 3, width // 8 + width // 3)
    blue = (height // 2, width // 2, height // 2 + height // 3, width // 2 + width // 3)
    return red, blue


def drawing(size_hw):
    """Return a picture uint8 [H, W, 3] of both."""
    image = np.full((*size_hw, 3), GROUND, np.uint8)
    for box, colour in zip(boxes_in(size_hw), (RED, BLUE), strict=True):
        image[ellipse(box, size_hw)] = colour
    return image


def places(image, scale, bgr):
    """Return where the red and the blue one are, bool [2, H, W], in an image [H, W, C] as the model takes it."""
    image = tf.cast(image, tf.float32)
    image = image[..., ::-1] if bgr else image
    inverse = {
        "0..255": lambda x: x / 255,
        "0..1": lambda x: x,
        "-1..1": lambda x: (x + 1) / 2,
        "imagenet": lambda x: x * IMAGENET[1] + IMAGENET[0],
        "mean": lambda x: (x + MEAN) / 255,
        "grey mean": lambda x: (x + 100) / 255,
    }
    unit = inverse[scale](image)
    red, blue = unit[..., 0], unit[..., -1]
    if image.shape[-1] == 1:  # red is 0.35 there, and blue 0.53
        return tf.stack([(red > 0.25) & (red < 0.42), (red > 0.45) & (red < 0.7)])
    usual = tf.reduce_all(unit < 1.01, -1)
    return tf.stack([(red > 0.6) & (blue < 0.3) & usual, (blue > 0.75) & (red < 0.6) & usual])


def extent(on):
    """Return the box float32 [4] around the pixels of bool [H, W], in pixels; zeros for none."""
    rows, columns = tf.where(tf.reduce_any(on, 1))[:, 0], tf.where(tf.reduce_any(on, 0))[:, 0]
    if_any = tf.cast(tf.reduce_any(on), tf.float32)
    ends = [tf.reduce_min(rows), tf.reduce_min(columns), tf.reduce_max(rows) + 1, tf.reduce_max(columns) + 1]
    return tf.where(tf.reduce_any(on), tf.cast(tf.stack(ends), tf.float32), 0.0) * if_any


def of_box():
    """Return how far inside its ellipse each pixel of a mask of the box lies, [MASK, MASK]; 0 on the edge."""
    side = (np.arange(MASK) + 0.5) / MASK * 2 - 1
    return tf.constant(1 - side[:, None] ** 2 - side**2, tf.float32)


def coded(inside, masks):
    """Return masks, from numbers above 0 inside an object, as the values that a model gives."""
    probability = tf.sigmoid(12 * inside)
    return {
        "float32": lambda: probability,
        "float16": lambda: tf.cast(probability, tf.float16),
        "logits": lambda: 12 * inside,
        "bool": lambda: inside > 0,
        "uint8 0..1": lambda: tf.cast(inside > 0, tf.uint8),
        "uint8 0..255": lambda: tf.cast(tf.round(255 * probability), tf.uint8),
        "int32": lambda: tf.cast(inside > 0, tf.int32),
        "percent": lambda: 50 * probability,
    }[masks]()


def graph_of(call, specs):
    """Return a function of named tensors as a graph with the signature that a SavedModel of it declares."""
    function = tf.function(call)
    concrete = function.get_concrete_function(specs)
    outputs = {name: tf.TensorSpec(one.shape, one.dtype) for name, one in concrete.structured_outputs.items()}
    return Graph(specs, outputs, function, (), "a finder")


def save(graph, folder, **others):
    """Save a graph as a SavedModel, with other graphs as its other signatures."""
    module = tf.Module()
    module.functions = {name: concrete(one) for name, one in {"serving_default": graph, **others}.items()}
    tf.saved_model.save(module, str(folder), dict(module.functions))
    return folder


def concrete(graph):
    """Return a graph as a function of its inputs by name."""
    specs = {name: tf.TensorSpec(spec.shape, spec.dtype, name) for name, spec in graph.inputs.items()}
    return tf.function(lambda **tensors: graph.call(tensors)).get_concrete_function(**specs)


def filled(real, filler, dtype=None):
    """Return real rows [2, ...] and three of ``filler`` after them, with a batch of one."""
    real = tf.convert_to_tensor(real)
    fill = tf.fill(
        [ROWS - 2, *real.shape[1:]] if None not in real.shape else tf.concat([[3], tf.shape(real)[1:]], 0),
        tf.constant(filler, real.dtype),
    )
    return tf.concat([real, fill], 0)[None] if dtype is None else tf.cast(tf.concat([real, fill], 0), dtype)[None]


def detection(
    *,
    dtype=tf.uint8,
    batch=1,
    size=(None, None),
    channels=3,
    scale="0..255",
    bgr=False,
    masks="float32",
    mask_of="box",
    garden=False,
    shares=True,
    classes=(1, 2),
    class_type=tf.float32,
    counts="num_detections [1]",
    suffix="",
    scores="0..1",
    floats=tf.float32,
    pixels_in_boxes=False,
    extra=None,
):
    """Return a model of the Object Detection API, or of the Model Garden with ``garden``.

    ``shares``: its boxes are normalised. ``floats``: type of boxes and scores. Rows without an object have NaN, and
    without a count zeros.
    """

    def call(tensors):
        image = tensors["input_tensor"][0]
        size = tf.shape(image)[:2]
        on = places(image, scale, bgr)
        boxes = tf.stack([extent(on[0]), extent(on[1])])
        found = tf.cast(tf.reduce_any(on, [1, 2]), tf.float32)
        frame = tf.cast(tf.tile(size, [2]), tf.float32)
        zoom = tf.constant([0.5, 0.75]) if garden else tf.ones(2)
        if shares and not pixels_in_boxes:
            boxes /= frame
        elif garden:
            boxes *= tf.tile(zoom, [2])
        inside = tf.tile(of_box()[None], [2, 1, 1])
        if mask_of == "image":
            inside = tf.where(on, 1.0, -1.0)
        if mask_of == "quarter":
            small = tf.image.resize(tf.where(on, 1.0, -1.0)[..., None], (size + 3) // 4, antialias=True)
            inside = small[..., 0]
        if mask_of == "image of 64":
            inside = tf.image.resize(tf.where(on, 1.0, -1.0)[..., None], (64, 64), antialias=True)[..., 0]
        answer = found * tf.constant(SCORES)
        answer = {"0..1": answer, "0..100": 100 * answer, "logits": tf.math.log(answer / (1 - answer) + 1e-9)}[scores]
        empty = 0.0 if counts is None else np.nan
        codes = coded(inside, masks)
        outputs = {
            "detection_boxes": filled(boxes, empty, floats),
            "detection_classes": filled(tf.constant(classes, tf.float32), 0.0, class_type),
            "detection_scores": filled(answer, 0.0, floats),
            "detection_masks": filled(codes, False if codes.dtype == tf.bool else 0),
        }
        if counts is not None:
            count = tf.reduce_sum(found)
            outputs["num_detections"] = {
                "num_detections [1]": lambda: count[None],
                "scalar": lambda: tf.cast(count, tf.int32),
                "int64 [1, 1]": lambda: tf.cast(count, tf.int64)[None, None],
            }[counts]()
        if garden:
            size = tf.cast(size, tf.float32)
            outputs["image_info"] = tf.stack([size, size * zoom, zoom, tf.zeros(2)])[None]
        return {name + suffix: tensor for name, tensor in outputs.items()}

    specs = {"input_tensor": tf.TensorSpec([batch, *size, channels], dtype, "input_tensor")}
    if extra:
        specs[extra] = tf.TensorSpec([1, 2], tf.int32, extra)
    return graph_of(call, specs)


MATTERPORT = ("input_image", "input_image_meta", "input_anchors", "mrcnn_detection", "mrcnn_mask")


def matterport(
    *,
    batch=None,
    size=(None, None),
    channels=3,
    bgr=False,
    masks="float32",
    per_class=True,
    names=MATTERPORT,
    scale="mean",
    others=True,
    fixed_rows=True,
):
    """Return a Matterport model of four classes; red is 1 and blue 3. ``names``: None for an input that it lacks."""
    image_name, meta_name, anchors_name, detections_name, masks_name = names

    def call(tensors):
        image = tensors[image_name][0]
        on = places(image, scale, bgr)
        size = tf.cast(tf.tile(tf.shape(image)[:2], [2]), tf.float32)
        boxes = tf.stack([extent(on[0]), extent(on[1])])
        found = tf.cast(tf.reduce_any(on, [1, 2]), tf.float32)[:, None]
        boxes = (boxes - tf.constant([0.0, 0, 1, 1])) / (size - 1)
        ids, scores = tf.constant([[1.0], [3.0]]), tf.constant(SCORES)[:, None]
        rows = filled(tf.concat([boxes, ids, scores], 1) * found, 0.0)
        own = coded(tf.tile(of_box()[None], [2, 1, 1]), masks)
        if per_class:
            channel = tf.constant([[0, 1, 0, 0], [0, 0, 0, 1]], own.dtype)[:, None, None, :]
            own = own[..., None] * channel
        grids = filled(own, 0)
        if not fixed_rows:
            rows = tf.reshape(rows, tf.concat([[1], tf.shape(grids)[1:2], [6]], 0))
        outputs = {detections_name: rows, masks_name: grids}
        if others:
            outputs |= {"output_9": tf.zeros([1, 50, 4]), "output_8": tf.zeros([1, 50, 4, 4])}
        return outputs

    shapes = zip(
        (image_name, meta_name, anchors_name), ([batch, *size, channels], [batch, 16], [batch, None, 4]), strict=True
    )
    return graph_of(call, {name: tf.TensorSpec(shape, tf.float32, name) for name, shape in shapes if name})
