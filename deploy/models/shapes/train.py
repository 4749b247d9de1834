"""Train the bundled model from scratch on two cores: ``python -m deploy.models.shapes.train``."""

import argparse
import csv
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tqdm import tqdm

from deploy.models.shapes import boxes as bx
from deploy.models.shapes import bundled, dataset, network, targets
from handler.model import mold

CURVE = "learning_curve"  # .csv and .png
BATCH = 8
SIZE = 192
PROPOSALS = 48
LOSSES = ("rpn_class", "rpn_box", "class", "box", "mask")
Row = list[float]  # of the learning curve: step, seconds, running mean of each loss


class Stage(NamedTuple):
    """Updates with a learning rate that rises to ``rate`` in ``warmup`` steps, then falls to 0.5 % of it."""

    steps: int
    warmup: int
    rate: float
    seed: int
    served: bool  # frames and empty scenes too (see dataset.batches)


STAGES = (Stage(7000, 300, 1.2e-3, seed=2, served=False), Stage(2500, 100, 5e-4, seed=3, served=True))


class Matched(NamedTuple):
    """Regions [b, n, 4] in pixels, and their targets: class, deltas, index of the truth [b, n]."""

    regions: tf.Tensor
    labels: tf.Tensor
    shifts: tf.Tensor
    owner: tf.Tensor


class Trainer:
    """The sub-models, their optimiser and one compiled step."""

    def __init__(self, sub: network.Parts, stage: Stage) -> None:
        self.sub = sub
        self.anchors = bx.to_pixels(tf.constant(training_anchors()), tf.constant([SIZE, SIZE]))
        self.cutoffs = network.Cutoffs(candidates=300, proposals=PROPOSALS)
        models = (self.sub.features, self.sub.rpn, self.sub.box_head, self.sub.mask_head)
        self.variables = [v for model in models for v in model.trainable_variables]
        schedule = keras.optimizers.schedules.CosineDecay(
            0.0, stage.steps - stage.warmup, alpha=0.005, warmup_target=stage.rate, warmup_steps=stage.warmup
        )
        self.optimizer = keras.optimizers.AdamW(schedule, weight_decay=1e-4, global_clipnorm=5.0)
        self.optimizer.exclude_from_weight_decay(var_names=["bias", "beta", "gamma"])
        self.optimizer.build(self.variables)

    @tf.function
    def step(self, images: tf.Tensor, ids: tf.Tensor, classes: tf.Tensor, truth: tf.Tensor) -> tf.Tensor:
        """Make one update on images uint8 [b, S, S, 3]; return the five losses, float32 [5]."""
        with tf.GradientTape() as tape:
            losses = self.losses(tf.cast(images, tf.float32) - bundled.SETTINGS.mean, ids, classes, truth)
            total = tf.reduce_sum(losses * tf.constant([2.0, 1.0, 1.0, 1.0, 1.0]))
        self.optimizer.apply_gradients(zip(tape.gradient(total, self.variables), self.variables, strict=True))
        return losses

    def losses(self, images: tf.Tensor, ids: tf.Tensor, classes: tf.Tensor, truth: tf.Tensor) -> tf.Tensor:
        """Return losses float32 [5], unweighted: RPN objectness (focal) and boxes, head class and boxes, masks."""
        pyramid = self.sub.features(images, training=True)
        logits, deltas = network.region_scores(self.sub.rpn, pyramid)
        real = classes > 0
        positive, counted, expected = targets.anchor_targets(self.anchors, truth, real)
        hits = tf.maximum(tf.reduce_sum(tf.cast(positive, tf.float32)), 1.0)
        focal = keras.losses.BinaryFocalCrossentropy(
            apply_class_balancing=True, alpha=0.5, gamma=2.0, from_logits=True, reduction="none"
        )(tf.cast(positive, tf.float32)[..., None], logits[..., None])
        objectness = tf.reduce_sum(tf.where(counted, focal, 0.0)) / hits
        region_box = tf.reduce_sum(tf.where(positive, huber(expected, deltas), 0.0)) / hits

        tiled = tf.tile(self.anchors[None], [tf.shape(logits)[0], 1, 1])
        regions, _ = network.propose(logits, deltas, tiled, tf.constant([SIZE, SIZE]), self.cutoffs)
        regions = tf.concat([regions, targets.jittered(truth, real, float(SIZE))], 1)
        regions = tf.stop_gradient(regions)
        labels, shifts, owner = targets.region_targets(regions, truth, classes)
        matched = Matched(regions, labels, shifts, owner)
        return tf.stack([objectness, region_box, *self.head_losses(pyramid, matched, ids)])

    def head_losses(
        self, pyramid: list[tf.Tensor], matched: Matched, ids: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Return the losses of class, over all regions, of boxes, over those that hit an object, and of a few masks."""
        logits, deltas = self.sub.box_head(network.PoolRegions(7)(matched.regions, *pyramid[:4]), training=True)
        flat = tf.reshape(matched.labels, [-1])
        class_loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(flat, logits))
        hit = tf.cast(flat > 0, tf.float32)
        box_loss = mean_where(hit, huber(tf.reshape(matched.shifts, [-1, 4]), deltas))

        order = tf.cast(matched.labels > 0, tf.float32) + tf.random.uniform(tf.shape(matched.labels), maxval=0.5)
        _, chosen = tf.math.top_k(order, targets.POSITIVES)
        chosen_regions = tf.gather(matched.regions, chosen, batch_dims=1)
        kind = tf.reshape(tf.gather(matched.labels, chosen, batch_dims=1), [-1])
        expected = targets.mask_targets(ids, chosen_regions, tf.gather(matched.owner, chosen, batch_dims=1) + 1)
        pooled = network.PoolRegions(network.MASK_SIZE // 2)(chosen_regions, *pyramid[:4])
        masks = self.sub.mask_head(pooled, training=True) * tf.one_hot(kind, network.NUM_CLASSES)[:, None, None]
        masks = tf.reduce_sum(masks, -1)  # each region's own class, without the slow gradient of a gather
        expected = tf.reshape(expected, [-1, network.MASK_SIZE, network.MASK_SIZE])
        each = tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(expected, masks), [1, 2])
        hit = tf.cast(kind > 0, tf.float32)
        return class_loss, box_loss, mean_where(hit, each)


def huber(expected: tf.Tensor, actual: tf.Tensor) -> tf.Tensor:
    """Return the Huber loss with delta 1, mean over the last axis."""
    error = tf.abs(expected - actual)
    return tf.reduce_mean(tf.where(error < 1, 0.5 * error**2, error - 0.5), -1)


def mean_where(hit: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """Return the mean of ``values`` at the ones of ``hit``, float32 0/1 of the same shape; 0 without any."""
    return tf.reduce_sum(hit * values) / tf.maximum(tf.reduce_sum(hit), 1.0)


def training_anchors() -> NDArray[np.float32]:
    """Return the anchors of a SIZE x SIZE image, float32 [A, 4], normalised."""
    found: NDArray[np.float32] = mold.anchors((SIZE, SIZE), bundled.SETTINGS.anchors)[0]
    return found


def train(stages: Sequence[Stage], data: dataset.Dataset, output: Path, history: list[Row]) -> None:
    """Train through ``stages``; after each one write weights and learning curve to the folder ``output``.

    With a ``history``, continue from the weights there.
    """
    sub = network.parts()
    model = network.join(sub)
    weights = output / bundled.WEIGHTS.name
    if history:
        model.load_weights(weights)
    for stage in stages:
        run_stage(Trainer(sub, stage), stage, dataset.batches(data, BATCH, stage.seed, served=stage.served), history)
        model.save_weights(weights)
        write_curve(output / CURVE, history)


def run_stage(trainer: Trainer, stage: Stage, batches: Iterator[dataset.Sample], history: list[Row]) -> None:
    """Make the updates of one stage, with a progress bar; every 50 add a row to ``history``."""
    shapes = ((BATCH, SIZE, SIZE, 3), (BATCH, SIZE, SIZE), (BATCH, 24), (BATCH, 24, 4))
    types = (tf.uint8, tf.uint8, tf.int32, tf.float32)
    signature = tuple(tf.TensorSpec(shape, dtype) for shape, dtype in zip(shapes, types, strict=True))
    feed = tf.data.Dataset.from_generator(lambda: batches, output_signature=signature).prefetch(4)
    first, before_s = (int(history[-1][0]), history[-1][1]) if history else (0, 0.0)
    mean = np.zeros(len(LOSSES))
    started = time.monotonic()
    bar = tqdm(feed.take(stage.steps), total=stage.steps, desc="training", unit="step")
    for step, batch in enumerate(bar, 1):
        losses = trainer.step(*batch).numpy()
        if not np.isfinite(losses).all():
            raise FloatingPointError(
                f"loss at step {step} must be finite, got {dict(zip(LOSSES, losses, strict=True))}"
            )
        mean += (losses - mean) / min(step, 50)
        if step % 50 == 0:
            history.append([first + step, before_s + time.monotonic() - started, *mean])
            bar.set_postfix(dict(zip(LOSSES, np.round(mean, 3), strict=True)))


def read_curve(path: Path) -> list[Row]:
    """Read the rows of the learning curve at ``path``, which has no suffix."""
    with path.with_suffix(".csv").open(newline="") as file:
        return [[float(cell) for cell in row] for row in list(csv.reader(file))[1:]]


def write_curve(path: Path, history: list[Row]) -> None:
    """Write the rows to ``path``.csv, and their plot to ``path``.png."""
    import matplotlib as mpl  # noqa: PLC0415 - a second, which only the end of training needs

    mpl.use("agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    with path.with_suffix(".csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["step", "seconds", *LOSSES])
        writer.writerows([[int(row[0]), *np.round(row[1:], 4)] for row in history])
    table = np.array(history)
    figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
    for column, name in enumerate(LOSSES, 2):
        axes.plot(table[:, 0], table[:, column], label=name)
    axes.set(xlabel="step", ylabel="loss, running mean", yscale="log", title="Training of the bundled model")
    axes.legend()
    figure.savefig(path.with_suffix(".png"), dpi=110)
    plt.close(figure)


def main() -> None:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(prog="python -m deploy.models.shapes.train", description=__doc__)
    parser.add_argument("--scenes", type=int, default=9000, help="scenes to draw (default %(default)s)")
    parser.add_argument("--stage", type=int, choices=(1, 2), default=1, help="2 continues from the weights in --output")
    parser.add_argument("--shorten", type=int, default=1, help="divide the steps by this, for a trial")
    parser.add_argument("--work", type=Path, default=Path("build/model"), help="folder for the scenes (%(default)s)")
    parser.add_argument("--output", type=Path, default=bundled.WEIGHTS.parent, help="folder to write to (%(default)s)")
    args = parser.parse_args()
    keras.utils.set_random_seed(1)
    stages = [
        stage._replace(steps=stage.steps // args.shorten, warmup=stage.warmup // args.shorten)
        for stage in STAGES[args.stage - 1 :]
    ]
    data = dataset.load_or_draw(args.work / "train.npz", 0, args.scenes, SIZE)
    train(stages, data, args.output, [] if args.stage == 1 else read_curve(args.output / CURVE))


if __name__ == "__main__":
    main()
