"""The compact Mask R-CNN: 1.7 M parameters, Matterport's inputs and outputs, everything in the graph.

Functional sub-models hold the weights: ``features``, ``rpn``, ``box_head``, ``mask_head``. The layers between them have
none. Training drives the sub-models itself; ``build`` joins them for inference.
"""

from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf
from keras import layers

from deploy.models.shapes import boxes as bx
from deploy.models.shapes.bundled import SETTINGS
from deploy.models.shapes.scenes import LABELS

NUM_CLASSES = len(LABELS)  # 4, background included
META_SIZE = 12 + NUM_CLASSES  # 16
CHANNELS = 64
MASK_SIZE = 28


@dataclass(frozen=True)
class Cutoffs:
    """Limits of inference: candidates after the RPN, proposals, rows of the answer, least score, IoUs of NMS."""

    candidates: int = 1000
    proposals: int = 100
    rows: int = 64
    min_score: float = 0.7
    proposal_overlap: float = 0.7
    detection_overlap: float = 0.5


@dataclass(frozen=True)
class Parts:
    """The sub-models with weights."""

    features: keras.Model  # float32 [b, H, W, 3] RGB minus SETTINGS.mean -> [P2..P6], float32 [b, H/s, W/s, 64]
    rpn: keras.Model  # one level -> objectness logits [b, h, w, 3], deltas [b, h, w, 12]
    box_head: keras.Model  # float32 [m, 7, 7, 64] -> class logits [m, 4], deltas [m, 4]
    mask_head: keras.Model  # float32 [m, 14, 14, 64] -> mask logits [m, 28, 28, 4]


def parts() -> Parts:
    """Return sub-models with fresh weights."""
    return Parts(_features(), _rpn(), _box_head(), _mask_head())


def _conv(x: Any, filters: int, stride: int = 1, *, activate: bool = True) -> Any:
    x = layers.Conv2D(filters, 3, stride, "same", use_bias=False, kernel_initializer="he_normal")(x)
    x = layers.BatchNormalization(momentum=0.98, epsilon=1e-3)(x)
    return layers.ReLU()(x) if activate else x


def _features() -> keras.Model:
    image = keras.Input((None, None, 3), name="image")
    x = _conv(layers.Rescaling(1 / 64)(image), 24, 2)
    bottom_up = []
    for filters in (32, 64, 96, 128):
        x = _conv(x, filters, 2)
        x = layers.ReLU()(x + _conv(_conv(x, filters), filters, activate=False))
        bottom_up.append(x)
    top = layers.Conv2D(CHANNELS, 1)(bottom_up[-1])
    merged = [top]
    for lateral in reversed(bottom_up[:-1]):
        top = layers.UpSampling2D()(top) + layers.Conv2D(CHANNELS, 1)(lateral)
        merged.append(top)
    pyramid = [layers.Conv2D(CHANNELS, 3, padding="same")(level) for level in reversed(merged)]
    pyramid.append(layers.MaxPooling2D(1, 2)(pyramid[-1]))
    return keras.Model(image, pyramid, name="features")


def _rpn() -> keras.Model:
    level = keras.Input((None, None, CHANNELS), name="level")
    shared = layers.Conv2D(CHANNELS, 3, padding="same", activation="relu", kernel_initializer="he_normal")(level)
    ratios = len(SETTINGS.anchors.ratios)
    rare = keras.initializers.Constant(-4.0)  # nearly every anchor is background: start with that
    logits = layers.Conv2D(ratios, 1, bias_initializer=rare, name="objectness")(shared)
    deltas = layers.Conv2D(ratios * 4, 1, name="deltas")(shared)
    return keras.Model(level, [logits, deltas], name="rpn")


def _box_head() -> keras.Model:
    roi = keras.Input((7, 7, CHANNELS), name="roi")
    x = layers.Flatten()(roi)
    for _ in range(2):
        x = layers.Dense(192, use_bias=False, kernel_initializer="he_normal")(x)
        x = layers.ReLU()(layers.LayerNormalization()(x))  # without normalisation, 95 % of the units die in 500 steps
    return keras.Model(roi, [layers.Dense(NUM_CLASSES, name="logits")(x), layers.Dense(4)(x)], name="box_head")


def _mask_head() -> keras.Model:
    roi = keras.Input((14, 14, CHANNELS), name="roi")
    x = roi
    for _ in range(3):
        x = layers.Conv2D(CHANNELS, 3, padding="same", activation="relu", kernel_initializer="he_normal")(x)
    x = layers.Conv2DTranspose(CHANNELS, 2, 2, activation="relu", kernel_initializer="he_normal")(x)
    return keras.Model(roi, layers.Conv2D(NUM_CLASSES, 1)(x), name="mask_head")


def region_scores(rpn: keras.Model, pyramid: list[tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
    """Return objectness logits float32 [b, A] and deltas [b, A, 4] in Matterport's anchor order: level, y, x, ratio."""
    logits, deltas = [], []
    for level in pyramid:
        level_logits, level_deltas = rpn(level)
        count = tf.shape(level)[0]
        logits.append(tf.reshape(level_logits, [count, -1]))
        deltas.append(tf.reshape(level_deltas, [count, -1, 4]))
    return tf.concat(logits, 1), tf.concat(deltas, 1)


def propose(
    logits: tf.Tensor, deltas: tf.Tensor, anchors: tf.Tensor, size_hw: tf.Tensor, cutoffs: Cutoffs
) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the likeliest regions: boxes float32 [b, proposals, 4] in pixels, zero past counts int32 [b]."""
    candidates = tf.minimum(cutoffs.candidates, tf.shape(logits)[1])
    best, index = tf.math.top_k(logits, candidates)
    regions = bx.decode(tf.gather(anchors, index, batch_dims=1), tf.gather(deltas, index, batch_dims=1))
    frame = tf.cast(tf.concat([[0, 0], size_hw], 0), tf.float32)
    regions = bx.clip(regions, tf.tile(frame[None], [tf.shape(logits)[0], 1]))
    scores = tf.sigmoid(best)[..., None]
    kept, _, _, counts = bx.suppress(regions, scores, cutoffs.proposals, cutoffs.proposal_overlap, 0.0)
    return kept, counts


class Propose(layers.Layer):
    """Layer form of ``propose``; anchors are normalised, boxes in pixels."""

    def __init__(self, cutoffs: Cutoffs, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.cutoffs = cutoffs

    def call(self, image: tf.Tensor, logits: tf.Tensor, deltas: tf.Tensor, anchors: tf.Tensor) -> Any:
        """Return boxes [b, proposals, 4] and counts [b]."""
        size_hw = tf.shape(image)[1:3]
        return propose(logits, deltas, bx.to_pixels(anchors, size_hw), size_hw, self.cutoffs)


class Detect(layers.Layer):
    """Refines, clips to the window, keeps each region's likeliest class, suppresses: mrcnn_detection [b, rows, 6]."""

    def __init__(self, cutoffs: Cutoffs, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.cutoffs = cutoffs

    def call(  # noqa: PLR0917  (Keras passes tensors by position)
        self,
        regions: tf.Tensor,
        counts: tf.Tensor,
        logits: tf.Tensor,
        deltas: tf.Tensor,
        meta: tf.Tensor,
        image: tf.Tensor,
    ) -> tf.Tensor:
        """Return rows (y1, x1, y2, x2 normalised, class, score), best first, zero past the last."""
        batch, proposals = tf.shape(regions)[0], self.cutoffs.proposals
        scores = tf.nn.softmax(tf.reshape(logits, [batch, proposals, NUM_CLASSES]))
        winner = tf.one_hot(tf.argmax(scores, -1), NUM_CLASSES)
        real = tf.sequence_mask(counts, proposals, tf.float32)[..., None]
        refined = bx.decode(regions, tf.reshape(deltas, [batch, proposals, 4]))
        refined = bx.clip(refined, meta[:, 7:11])
        scores = (scores * winner * real)[..., 1:]
        kept, score, index, valid = bx.suppress(
            refined, scores, self.cutoffs.rows, self.cutoffs.detection_overlap, self.cutoffs.min_score
        )
        kept = bx.to_normalised(kept, tf.shape(image)[1:3])
        rows = tf.concat([kept, index[..., None] + 1, score[..., None]], -1)
        return rows * tf.sequence_mask(valid, self.cutoffs.rows, tf.float32)[..., None]


class PoolRegions(layers.Layer):
    """ROI-aligns every box of every image: float32 [b * n, size, size, c]."""

    def __init__(self, size: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.size = size

    def call(self, regions: tf.Tensor, *pyramid: tf.Tensor) -> tf.Tensor:
        """Pool boxes [b, n, 4] in pixels."""
        shape = tf.shape(regions)
        owner = tf.repeat(tf.range(shape[0]), shape[1])
        pooled = bx.pool(list(pyramid), tf.reshape(regions, [-1, 4]), owner, self.size)
        return tf.ensure_shape(pooled, [None, self.size, self.size, CHANNELS])


class PoolDetections(layers.Layer):
    """ROI-aligns the real rows, at least one: oneDNN's convolution gets the channels of an empty batch wrong."""

    def call(self, rows: tf.Tensor, *pyramid: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return float32 [m, 14, 14, c] and each one's place, int64 [m, 2]: image, row."""
        size_hw = tf.shape(pyramid[0])[1:3] * SETTINGS.anchors.strides[0]
        where = tf.where(rows[..., 4] > 0)
        where = tf.cond(tf.shape(where)[0] > 0, lambda: where, lambda: tf.zeros([1, 2], tf.int64))
        chosen = bx.to_pixels(tf.gather_nd(rows[..., :4], where), size_hw)
        pooled = bx.pool(list(pyramid), chosen, tf.cast(where[:, 0], tf.int32), MASK_SIZE // 2)
        return tf.ensure_shape(pooled, [None, MASK_SIZE // 2, MASK_SIZE // 2, CHANNELS]), where


class PlaceMasks(layers.Layer):
    """Puts the masks back in their rows: mrcnn_mask [b, rows, 28, 28, classes], 0..1, zero past the last row."""

    def call(self, logits: tf.Tensor, where: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
        """Scatter sigmoid(logits) [m, 28, 28, classes]."""
        real = tf.cast(tf.gather_nd(rows[..., 4], where) > 0, tf.float32)[:, None, None, None]
        shape = tf.concat([tf.shape(rows)[:2], [MASK_SIZE, MASK_SIZE, NUM_CLASSES]], 0)
        masks = tf.scatter_nd(where, tf.sigmoid(logits) * real, tf.cast(shape, tf.int64))
        return tf.ensure_shape(masks, [None, rows.shape[1], MASK_SIZE, MASK_SIZE, NUM_CLASSES])


def join(sub: Parts, cutoffs: Cutoffs | None = None) -> keras.Model:
    """Return the inference model of these sub-models.

    Inputs: input_image float32 [b, H, W, 3], RGB minus SETTINGS.mean, H and W multiples of 64; input_image_meta float32
    [b, 16]; input_anchors float32 [b, A, 4], normalised. Outputs: mrcnn_detection float32 [b, rows, 6], mrcnn_mask
    float32 [b, rows, 28, 28, 4], probabilities.
    """
    cutoffs = cutoffs or Cutoffs()
    image = keras.Input((None, None, 3), name="input_image")
    meta = keras.Input((META_SIZE,), name="input_image_meta")
    anchors = keras.Input((None, 4), name="input_anchors")
    pyramid = sub.features(image)
    scores, shifts = RegionScores(sub.rpn, name="region_scores")(*pyramid)
    regions, counts = Propose(cutoffs, name="propose")(image, scores, shifts, anchors)
    logits, deltas = sub.box_head(PoolRegions(7, name="pool_regions")(regions, *pyramid[:4]))
    rows = Detect(cutoffs, name="detect")(regions, counts, logits, deltas, meta, image)
    pooled, where = PoolDetections(name="pool_detections")(rows, *pyramid[:4])
    masks = PlaceMasks(name="place_masks")(sub.mask_head(pooled), where, rows)
    return keras.Model([image, meta, anchors], {"mrcnn_detection": rows, "mrcnn_mask": masks}, name="shapes_mask_rcnn")


class RegionScores(layers.Layer):
    """Layer form of ``region_scores``; owns the RPN's weights in the joined model."""

    def __init__(self, rpn: keras.Model, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.rpn = rpn

    def call(self, *pyramid: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return logits [b, A] and deltas [b, A, 4]."""
        return region_scores(self.rpn, list(pyramid))


def build() -> keras.Model:
    """Return the inference model with fresh weights and the published cut-offs, for ``load_weights``."""
    return join(parts())
