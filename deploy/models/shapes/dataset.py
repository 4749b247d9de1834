"""Scenes in bulk: drawn once on all cores, kept on disk, augmented during training."""

import multiprocessing
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from deploy.models.shapes import scenes

HELD_OUT_SEED = 1_000_000  # held-out scenes are drawn from seeds no training run reaches
FRAMED, EMPTY = 0.4, 0.05  # shares of served scenes with a frame around, and without an object
MARGIN_PX = 32  # of a frame, at most: half of what padding to multiples of 64 adds

Sample = tuple[NDArray[Any], ...]  # image, ids, classes int32, boxes, otherwise as in Dataset


@dataclass(frozen=True)
class Dataset:
    """Scenes as arrays: images uint8 [n, S, S, 3], ids uint8 [n, S, S], classes uint8 [n, G], boxes float32 [n, G, 4].

    Boxes are y1, x1, y2, x2 in pixels with y2 and x2 exclusive; rows past the last instance are zero, G = 24.
    """

    images: NDArray[np.uint8]
    ids: NDArray[np.uint8]
    classes: NDArray[np.uint8]
    boxes: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.images)


def load_or_draw(path: Path, first_seed: int, count: int, size: int = 192) -> Dataset:
    """Read the scenes of seeds ``first_seed ..`` from ``path``, or draw and write them (about 20 ms each on a core)."""
    if path.exists():
        with np.load(path) as kept:
            found = Dataset(kept["images"], kept["ids"], kept["classes"], kept["boxes"])
        if found.images.shape == (count, size, size, 3):
            return found
    drawn = draw(first_seed, count, size)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, images=drawn.images, ids=drawn.ids, classes=drawn.classes, boxes=drawn.boxes)
    return drawn


def draw(first_seed: int, count: int, size: int = 192) -> Dataset:
    """Draw the scenes of seeds first_seed .. first_seed + count - 1 on all cores, with a progress bar."""
    seeds = [(seed, size) for seed in range(first_seed, first_seed + count)]
    with multiprocessing.get_context("spawn").Pool() as pool:
        bar = tqdm(pool.imap(_draw, seeds, chunksize=16), total=count, desc="drawing scenes", unit="scene")
        drawn = list(bar)
    return Dataset(
        images=np.stack([scene.image for scene in drawn]),
        ids=np.stack([scene.ids for scene in drawn]),
        classes=np.stack([scene.classes for scene in drawn]),
        boxes=np.stack([scenes.boxes_of(scene.ids, scenes.MAX_INSTANCES) for scene in drawn]),
    )


def _draw(seed_and_size: tuple[int, int]) -> scenes.Scene:
    return scenes.draw(*seed_and_size)


def batches(data: Dataset, batch_size: int, seed: int, *, served: bool) -> Iterator[Sample]:
    """Yield shuffled, augmented batches without end: images uint8, ids, classes int32, boxes float32.

    With ``served``, some scenes are like those of a served model: in a frame of padding, or without any object.
    """
    rng = np.random.default_rng(seed)
    while True:
        order = rng.permutation(len(data))
        for start in range(0, len(data) - batch_size + 1, batch_size):
            rows = [augment(rng, data, int(i)) for i in order[start : start + batch_size]]
            if served:
                rows = [as_served(rng, row) for row in rows]
            yield tuple(np.stack(column) for column in zip(*rows, strict=True))


def as_served(rng: np.random.Generator, sample: Sample) -> Sample:
    """Return the scene or an empty one in its place, with or without a black frame."""
    if rng.random() < EMPTY:
        sample = empty(rng, sample)
    return frame(rng, sample) if rng.random() < FRAMED else sample


def empty(rng: np.random.Generator, sample: Sample) -> Sample:
    """Return a scene of the same shapes and types with nothing to find: one colour, or clutter."""
    size = sample[0].shape[0]
    flat = np.full((size, size, 3), rng.integers(0, 256, 3), np.uint8)
    image = flat if rng.random() < 0.5 else scenes.finish(rng, scenes.background(rng, size))
    return image, *(np.zeros_like(part) for part in sample[1:])


def frame(rng: np.random.Generator, sample: Sample) -> Sample:
    """Black out a margin of up to MARGIN_PX on each side, like padding, if no object loses half of its area."""
    image, ids, classes, _ = sample
    size = image.shape[0]
    areas = np.bincount(ids.ravel(), minlength=len(classes) + 1)
    for _ in range(8):
        (top, left), (bottom, right) = rng.integers(0, MARGIN_PX + 1, 2), size - rng.integers(0, MARGIN_PX + 1, 2)
        inside = np.zeros_like(ids)
        inside[top:bottom, left:right] = 1
        kept = ids * inside
        if (np.bincount(kept.ravel(), minlength=len(areas))[1:] >= scenes.MIN_VISIBLE * areas[1:]).all():
            return image * inside[..., None], kept, classes, scenes.boxes_of(kept, len(classes))
    return sample


def augment(rng: np.random.Generator, data: Dataset, index: int) -> Sample:
    """Return one scene flipped, transposed, regraded: image, ids, classes, boxes as in Dataset."""
    image, ids, boxes = data.images[index], data.ids[index], data.boxes[index]
    classes = data.classes[index].astype(np.int32)
    size = np.float32(image.shape[0])
    real = (classes > 0)[:, None]
    if rng.random() < 0.5:
        image, ids = image[::-1], ids[::-1]
        boxes = np.where(real, np.stack([size - boxes[:, 2], boxes[:, 1], size - boxes[:, 0], boxes[:, 3]], 1), 0)
    if rng.random() < 0.5:
        image, ids = image[:, ::-1], ids[:, ::-1]
        boxes = np.where(real, np.stack([boxes[:, 0], size - boxes[:, 3], boxes[:, 2], size - boxes[:, 1]], 1), 0)
    if rng.random() < 0.5:
        image, ids, boxes = image.transpose(1, 0, 2), ids.T, boxes[:, [1, 0, 3, 2]]
    return regrade(rng, image), np.ascontiguousarray(ids), classes, boxes.astype(np.float32)


def regrade(rng: np.random.Generator, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Change the colours and keep the shapes: channel order, inversion, grey, contrast, brightness."""
    if rng.random() < 0.3:
        image = image[..., rng.permutation(3)]
    if rng.random() < 0.25:
        image = 255 - image
    if rng.random() < 0.2:
        image = np.repeat(image.mean(-1, keepdims=True), 3, axis=-1).astype(np.uint8)
    if rng.random() < 0.5:
        gain, shift = rng.uniform(0.5, 1.3), rng.uniform(-40, 40)
        table = np.clip((np.arange(256) - 128) * gain + 128 + shift, 0, 255).astype(np.uint8)
        image = table[image]
    return np.ascontiguousarray(image)
