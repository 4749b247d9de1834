"""Networks with the signatures of Ultralytics' exports. They really see what they find: ellipses of known colours.

The prototypes are the image, a quarter as large, in five features (red, green, blue, their squares, 1), mixed by seeded
weights. The logit of "this pixel has that colour" is linear in these features, so every place of a head has a mask by
its coefficients. Boxes follow from the moments of the same masks, with a seeded error for each place.
"""

import numpy as np
import tensorflow as tf
from PIL import Image, ImageDraw

DEPTH, CLASSES = 32, 80
COLOURS = np.array(
    [[230, 40, 40], [40, 200, 60], [50, 70, 230], [230, 210, 40], [210, 50, 210], [40, 210, 210], [245, 245, 245]]
)
CLASS_OF_COLOUR = np.array([0, 79, 17, 17, 42, 3, 61])  # the first and the last, and one twice
SHARPNESS, RADIUS = 60.0, 0.3  # of the logit, in colours 0..1
STRIDES = (8, 16, 32)


def photograph(size_hw, seed):
    """Return an RGB image uint8: ellipses of different colours over dark noise, some over others."""
    rng = np.random.default_rng(seed)
    height, width = size_hw
    noise = Image.fromarray(rng.integers(0, 60, (24, 32, 3), np.uint8))
    image = noise.resize((width, height), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(image)
    side = min(size_hw)
    for colour in rng.permutation(len(COLOURS)):
        y, x = rng.uniform(0.05, 0.95, 2) * size_hw
        half_y, half_x = rng.uniform(0.05, 0.22, 2) * side
        draw.ellipse([x - half_x, y - half_y, x + half_x, y + half_y], fill=tuple(COLOURS[colour].tolist()))
    return np.asarray(image)


class Network(tf.Module):
    """A network of one signature: layout of its head, unit of its boxes, place of the prototypes' channels."""

    def __init__(self, frame_hw, form="raw", boxes="pixels", channels="last", seed=0):
        super().__init__()
        self.frame_hw, self.form, self.boxes, self.channels = frame_hw, form, boxes, channels
        rng = np.random.default_rng(seed)
        self.mix = tf.Variable(rng.normal(size=(5, DEPTH)), dtype=tf.float32)
        unmix = np.linalg.pinv(self.mix.numpy()).T  # [5, 32]: coefficients @ prototypes = coefficients of features
        colours = COLOURS / 255
        features = np.column_stack([2 * colours, -np.ones(len(colours)), RADIUS**2 - (colours**2).sum(1)])
        self.coefficients = tf.Variable(SHARPNESS * features @ unmix, dtype=tf.float32)
        centres, halves = [], []
        for stride in STRIDES:
            y, x = np.meshgrid(*((np.arange(side // stride) + 0.5) * stride for side in frame_hw), indexing="ij")
            centres.append(np.stack([x, y], -1).reshape(-1, 2))
            halves.append(np.full((y.size, 2), 2 * stride))
        self.centres, half = np.concatenate(centres), np.concatenate(halves)
        self.nothing = np.concatenate([self.centres - half, self.centres + half], 1).astype(np.float32)
        places = len(self.centres)
        self.error = tf.Variable(rng.normal(0, 0.01, (places, 4)), dtype=tf.float32)
        self.quality = tf.Variable(rng.permutation(places) / places * 0.9 + 0.05, dtype=tf.float32)

    @property
    def input_spec(self):
        return tf.TensorSpec([1, *self.frame_hw, 3], tf.float32, "images")

    def __call__(self, images):
        """Return the head and the prototypes for an image float32 [1, H, W, 3], 0..1."""
        small = tf.nn.avg_pool2d(images, 4, 4, "VALID")[0]
        features = tf.concat([small, tf.reduce_sum(small**2, -1, keepdims=True), tf.ones_like(small[..., :1])], -1)
        prototypes = features @ self.mix
        masks = tf.sigmoid(tf.einsum("hwm,km->khw", prototypes, self.coefficients))
        cells = tf.constant(self.centres[:, ::-1].copy() // 4, tf.int32)
        member = tf.gather_nd(tf.transpose(masks, [1, 2, 0]), cells)  # [places, colours]
        best, share = tf.argmax(member, 1), tf.reduce_max(member, 1, keepdims=True)
        centre, half = (tf.gather(one, best) for one in self._moments(masks))
        found = tf.concat([centre - half, centre + half], 1) + self.error * tf.tile(2 * half, [1, 2])
        found = share * found + (1 - share) * self.nothing
        scores = share[:, 0] ** 8 * self.quality  # a place at the rim of its object is not sure
        classes = tf.gather(tf.constant(CLASS_OF_COLOUR), best)
        coefficients = tf.gather(self.coefficients, best)
        head = self._head(found, scores, classes, coefficients, best)
        return head, (prototypes if self.channels == "last" else tf.transpose(prototypes, [2, 0, 1]))[None]

    def _moments(self, masks):
        """Return centre and half of the size of ellipses [k, h, w], each [k, 2] as x, y in pixels of the frame."""
        height, width = masks.shape[1:]
        grid = np.stack(np.meshgrid((np.arange(width) + 0.5) * 4, (np.arange(height) + 0.5) * 4), -1).astype(np.float32)
        weight = tf.reduce_sum(masks, [1, 2])[:, None] + 1e-3
        mean = tf.einsum("khw,hwc->kc", masks, grid) / weight
        square = tf.einsum("khw,khwc->kc", masks, (grid[None] - mean[:, None, None]) ** 2) / weight
        return mean, 2 * tf.sqrt(square)

    def _head(self, corners, scores, classes, coefficients, best):
        unit = tf.constant([*self.frame_hw[::-1]] * 2, tf.float32) if self.boxes == "shares" else tf.ones(4)
        if self.form == "end-to-end":
            first = tf.math.unsorted_segment_max(scores, best, len(COLOURS))
            scores = tf.where(scores == tf.gather(first, best), scores, 0.2 * scores)
            top = tf.math.top_k(scores, 300).indices
            rows = tf.concat([corners / unit, scores[:, None], tf.cast(classes, tf.float32)[:, None], coefficients], 1)
            return tf.gather(rows, top)[None]
        centre_size = tf.concat([(corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]], 1)
        by_class = tf.one_hot(classes, CLASSES) * scores[:, None]
        rows = tf.concat([centre_size / unit, by_class, coefficients], 1)
        return (tf.transpose(rows) if self.form == "raw" else rows)[None]


def save(folder, network):
    """Save a network as onnx2tf does: names by number, shapes fixed."""

    @tf.function(input_signature=[network.input_spec])
    def serve(images):
        head, prototypes = network(images)
        return {"output_0": head, "output_1": prototypes}

    tf.saved_model.save(network, str(folder), {"serving_default": serve})
    return folder
