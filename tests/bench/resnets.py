"""Mask R-CNNs of Matterport's signature and size with seeded weights: ResNet-50 (45 M parameters), ResNet-101 (64 M).

They find 100 objects of 81 classes in any image. Each can be saved as users bring it: by TensorFlow 1's builder, as a
SavedModel of TensorFlow 2, or as a Keras model with a file of its weights. Layers, sizes and strides: Matterport's
mrcnn/model.py; what it computes in NumPy, and the refinement of boxes by class, is left out.
"""

import zlib

import keras
import numpy as np
import tensorflow as tf

v1 = tf.compat.v1
BLOCKS = {"resnet50": (3, 4, 6, 3), "resnet101": (3, 4, 23, 3)}
CLASSES, ROWS, PROPOSALS, CANDIDATES = 81, 100, 300, 2000
INPUTS = {
    "input_image": (None, None, None, 3),
    "input_image_meta": (None, 12 + CLASSES),
    "input_anchors": (None, None, 4),
}
EPSILON = 1e-3


class Network:
    """The network, with the weights that ``weight(name, shape)`` gives it."""

    def __init__(self, blocks, weight):
        self.blocks, self.weight = blocks, weight

    def __call__(self, image, anchors):
        """Return rows [1, 100, 6] and masks [1, 100, 28, 28, 81] for an image less its mean [1, h, w, 3]."""
        pyramid = self.pyramid(self.backbone(image / 64))
        boxes = self.proposals([*pyramid, tf.nn.max_pool2d(pyramid[-1], 1, 2, "VALID")], anchors[0])
        classes, scores = self.classify(pyramid[0], boxes)
        scores, order = tf.nn.top_k(scores, ROWS)
        boxes, classes = tf.gather(boxes, order), tf.cast(tf.gather(classes, order), tf.float32)
        rows = tf.concat([boxes, classes[:, None], scores[:, None]], 1)
        return rows[None], self.masks(pyramid[0], boxes)[None]

    def backbone(self, x):
        x = tf.nn.max_pool2d(self.unit(x, "conv1", 7, 64, stride=2), 3, 2, "SAME")
        stages = []
        for stage, count in enumerate(self.blocks):
            for block in range(count):
                stride = 2 if stage and not block else 1
                x = self.bottleneck(x, f"res{stage + 2}_{block}", 64 << stage, stride, first=not block)
            stages.append(x)
        return stages

    def bottleneck(self, x, name, width, stride, *, first):
        y = self.unit(self.unit(x, f"{name}_a", 1, width, stride), f"{name}_b", 3, width)
        y = self.unit(y, f"{name}_c", 1, 4 * width, active=False)
        shortcut = self.unit(x, f"{name}_s", 1, 4 * width, stride, active=False) if first else x
        return tf.nn.relu(shortcut + 0.2 * y)

    def pyramid(self, stages):
        levels = [self.conv(stages[-1], "fpn5", 1, 256)]
        for place in (2, 1, 0):
            lateral = self.conv(stages[place], f"fpn{place + 2}", 1, 256)
            levels.insert(0, lateral + tf.image.resize(levels[0], tf.shape(lateral)[1:3], "nearest"))
        return [self.conv(level, f"fpn_p{place + 2}", 3, 256) for place, level in enumerate(levels)]

    def proposals(self, levels, anchors):
        """Return PROPOSALS boxes [n, 4] of the anchors [A, 4] with the highest scores."""
        shared = [tf.nn.relu(self.conv(level, "rpn", 3, 512)) for level in levels]
        scores = tf.concat([tf.reshape(self.conv(level, "rpn_class", 1, 6), [-1, 2]) for level in shared], 0)[:, 1]
        deltas = tf.concat([tf.reshape(self.conv(level, "rpn_box", 1, 12), [-1, 4]) for level in shared], 0)
        scores, order = tf.nn.top_k(scores, CANDIDATES)
        boxes = tf.clip_by_value(tf.gather(anchors, order) + 0.01 * tf.tanh(tf.gather(deltas, order)), 0.0, 1.0)
        kept = tf.image.non_max_suppression(boxes, scores, PROPOSALS, 0.7)
        return tf.gather(boxes, tf.pad(kept, [[0, PROPOSALS - tf.shape(kept)[0]]]))

    def classify(self, features, boxes):
        """Return the class of each box, never the background, and its score."""
        crops = tf.image.crop_and_resize(features, boxes, tf.zeros(PROPOSALS, tf.int32), [7, 7])
        x = self.unit(self.unit(crops, "head1", 7, 1024, padding="VALID"), "head2", 1, 1024)[:, 0, 0]
        self.weight("head_box/kernel", (1024, 4 * CLASSES))  # its refinement of boxes is left out, its size is not
        probabilities = tf.nn.softmax(tf.matmul(x, self.weight("head_class/kernel", (1024, CLASSES))))[:, 1:]
        return 1 + tf.argmax(probabilities, 1), tf.reduce_max(probabilities, 1)

    def masks(self, features, boxes):
        x = tf.image.crop_and_resize(features, boxes, tf.zeros(ROWS, tf.int32), [14, 14])
        for layer in range(4):
            x = self.unit(x, f"mask{layer}", 3, 256)
        kernel = self.weight("mask_up/kernel", (2, 2, 256, 256))
        x = tf.nn.relu(tf.nn.conv2d_transpose(x, kernel, (ROWS, 28, 28, 256), 2))
        return tf.sigmoid(4 * self.conv(x, "mask_out", 1, CLASSES))

    def unit(self, x, name, size, width, stride=1, *, padding="SAME", active=True):
        """Convolve, and normalise by a batch's constant mean and variance."""
        x = self.conv(x, name, size, width, stride, padding=padding)
        gamma, beta, mean, variance = (
            self.weight(f"{name}/{part}", (width,)) for part in ("gamma", "beta", "mean", "variance")
        )
        x = (x - mean) * (gamma * tf.math.rsqrt(variance + EPSILON)) + beta
        return tf.nn.relu(x) if active else x

    def conv(self, x, name, size, width, stride=1, *, padding="SAME"):
        kernel = self.weight(f"{name}/kernel", (size, size, int(x.shape[-1]), width))
        return tf.nn.conv2d(x, kernel, stride, padding)


def value(name, shape):
    """Return the seeded value of a weight."""
    kind, rng = name.rpartition("/")[2], np.random.default_rng(zlib.crc32(name.encode()))
    if kind == "kernel":
        return rng.normal(0, np.sqrt(2 / np.prod(shape[:-1])), shape).astype(np.float32)
    return (rng.normal(kind in ("gamma", "variance"), 0.05, shape)).astype(np.float32)


def shapes(kind):
    """Return the shape of each weight by its name."""
    found = {}

    def record(name, shape):
        found[name] = tuple(map(int, shape))
        return tf.zeros(shape)

    with tf.Graph().as_default():
        Network(BLOCKS[kind], record)(tf.zeros([1, 256, 256, 3]), v1.placeholder(tf.float32, [1, None, 4]))
    return found


def save_tensorflow_1(folder, kind, *, use_resource=False):
    """Save it as code for TensorFlow 1 does: a session, a checkpoint, signature inputs and outputs by name."""
    with tf.Graph().as_default() as graph, v1.Session(graph=graph) as session:
        feeds = {name: v1.placeholder(tf.float32, shape, name) for name, shape in INPUTS.items()}
        variables = {}

        def weight(name, shape):
            if name not in variables:
                zeros = v1.zeros_initializer()
                variables[name] = v1.get_variable(name, shape, initializer=zeros, use_resource=use_resource)
            return variables[name]

        image, meta, anchors = feeds.values()
        rows, masks = Network(BLOCKS[kind], weight)(image, anchors)
        outputs = {"mrcnn_detection": rows + 0 * meta[0, 0], "mrcnn_mask": masks}
        for name, variable in variables.items():
            variable.load(value(name, variable.shape.as_list()), session)
        builder = v1.saved_model.builder.SavedModelBuilder(str(folder))
        signature = v1.saved_model.signature_def_utils.predict_signature_def(feeds, outputs)
        builder.add_meta_graph_and_variables(session, ["serve"], {"serving_default": signature})
        builder.save()
    return folder


def save_tensorflow_2(folder, kind):
    """Save it as code for TensorFlow 2 does: a module with variables and a function."""
    module = tf.Module()
    module.weights = {name: tf.Variable(value(name, shape)) for name, shape in shapes(kind).items()}

    @tf.function(input_signature=[tf.TensorSpec(shape, tf.float32, name) for name, shape in INPUTS.items()])
    def serve(input_image, input_image_meta, input_anchors):
        network = Network(BLOCKS[kind], lambda name, _: module.weights[name])
        rows, masks = network(input_image, input_anchors)
        return {"mrcnn_detection": rows + 0 * input_image_meta[0, 0], "mrcnn_mask": masks}

    tf.saved_model.save(module, str(folder), {"serving_default": serve})
    return folder


class MaskRCNN(keras.layers.Layer):
    """The network as a layer."""

    def __init__(self, kind):
        super().__init__(name=kind)
        self.kind, self.own = kind, {}

    def build(self, *_):
        for name, shape in shapes(self.kind).items():
            self.own[name] = self.add_weight(shape=shape, initializer="zeros", name=name.replace("/", "_"))

    def call(self, image, meta, anchors):
        rows, masks = Network(BLOCKS[self.kind], lambda name, _: self.own[name].value)(image, anchors)
        return rows + 0 * meta[0, 0], masks

    def compute_output_shape(self, *_):
        return (1, ROWS, 6), (1, ROWS, 28, 28, CLASSES)


def keras_model(kind):
    """Return it as a Keras model, with zeros for weights."""
    inputs = [keras.Input(shape[1:], name=name) for name, shape in INPUTS.items()]
    rows, masks = MaskRCNN(kind)(*inputs)
    return keras.Model(inputs, {"mrcnn_detection": rows, "mrcnn_mask": masks})


def resnet50():
    """Build the smaller one, for --builder."""
    return keras_model("resnet50")


def resnet101():
    """Build the larger one, for --builder."""
    return keras_model("resnet101")


def save_weights(path, kind):
    """Write the weights of the Keras model."""
    model = keras_model(kind)
    (layer,) = (layer for layer in model.layers if layer.weights)
    for name, variable in layer.own.items():
        variable.assign(value(name, variable.shape))
    model.save_weights(path)
    return path
