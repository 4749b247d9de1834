"""Synthetic training scenes: circles, squares and triangles on clutter, with exact instance masks.

Every object is a signed distance field, in pixels at pixel centres, negative inside. Its anti-aliased edge, rim, bevel
and relief follow from the distance, and its mask is exact. Ground truth is the visible part of an object.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

LABELS = ("background", "circle", "square", "triangle")
MAX_INSTANCES = 24
MIN_VISIBLE = 0.5  # share of an object's full area that later objects and the border must leave visible
MIN_AREA_PX = 30

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Scene:
    """One picture and its truth: image uint8 [S, S, 3] RGB, ids uint8 [S, S], classes uint8 [MAX_INSTANCES].

    ``ids`` is 0 for background and i + 1 where instance i is visible; ``classes[i]`` indexes LABELS, 0 past the last.
    """

    image: NDArray[np.uint8]
    ids: NDArray[np.uint8]
    classes: NDArray[np.uint8]


@dataclass(frozen=True)
class Look:
    """The style of one object; colours are RGB in 0..255, widths are shares of its radius."""

    colour: Array
    texture: float
    texture_scale: float
    relief: float
    bevel: float
    rim: float
    rim_width: float
    light: float
    shadow: float
    kind: int


@dataclass
class Canvas:
    """A scene that is being painted."""

    image: Array
    ids: NDArray[np.uint8]
    classes: list[int] = field(default_factory=list)
    full_areas: list[int] = field(default_factory=list)


def draw(seed: int, size: int = 192) -> Scene:
    """Draw the scene of a seed: the same seed and size give the same bytes."""
    rng = np.random.default_rng(seed)
    canvas = Canvas(background(rng, size), np.zeros((size, size), np.uint8))
    one_class = rng.integers(1, 4) if rng.random() < 0.35 else 0
    base = look(rng, canvas.image)
    one_style = rng.random() < 0.45
    median_px = float(np.exp(rng.uniform(np.log(8), np.log(72)))) * size / 192
    touching = rng.random() < 0.4
    count = int(np.clip(rng.uniform(0.15, 0.75) * size * size / (np.pi * median_px**2), 1, MAX_INSTANCES))
    placed: list[tuple[float, float, float]] = []
    for _ in range(count * 3):
        if len(canvas.classes) >= count:
            break
        radius = max(5.0, median_px * float(np.exp(rng.normal(0, 0.18))))
        y, x = position(rng, placed, radius, size, touching=touching)
        kind = int(one_class or rng.integers(1, 4))
        style = vary(rng, base) if one_style else look(rng, canvas.image)
        if paint(rng, canvas, kind, (y, x, radius), style):
            placed.append((y, x, radius))
    classes = np.zeros(MAX_INSTANCES, np.uint8)
    classes[: len(canvas.classes)] = canvas.classes
    return Scene(finish(rng, canvas.image), canvas.ids, classes)


def noise(rng: np.random.Generator, size: int, cell_px: float) -> Array:
    """Return smooth noise [size, size], zero mean and unit deviation, with structure of about ``cell_px``."""
    cells = max(2, int(np.ceil(size / cell_px)) + 1)
    coarse = rng.standard_normal((cells, cells)).astype(np.float32)
    fine = ndimage.zoom(coarse, (size + 1) / cells, order=1)[:size, :size]
    return np.asarray((fine - fine.mean()) / (fine.std() + 1e-6), np.float32)


def background(rng: np.random.Generator, size: int) -> Array:
    """Return a cluttered ground float32 [size, size, 3]: gradient, noise of several scales, strokes, blotches."""
    base = rng.uniform(15, 240, 3).astype(np.float32)
    yy, xx = np.mgrid[:size, :size].astype(np.float32) / size - 0.5
    angle = rng.uniform(0, 2 * np.pi)
    image = base + (rng.uniform(0, 70) * (np.cos(angle) * xx + np.sin(angle) * yy))[..., None]
    for cell in (4, 16, 48):
        amplitude = rng.uniform(0, 14) * (rng.random() < 0.6)
        tint = 1 + rng.normal(0, 0.2, 3)
        image += amplitude * noise(rng, size, cell)[..., None] * tint
    for _ in range(int(rng.integers(0, 14) * (rng.random() < 0.6))):
        stroke(rng, image)
    return np.asarray(image, np.float32)


def stroke(rng: np.random.Generator, image: Array) -> None:
    """Paint one line, arc or long blotch that is none of the classes."""
    size = image.shape[0]
    yy, xx = np.mgrid[:size, :size].astype(np.float32)
    cy, cx, angle = rng.uniform(0, size), rng.uniform(0, size), rng.uniform(0, np.pi)
    along = (xx - cx) * np.cos(angle) + (yy - cy) * np.sin(angle)
    across = -(xx - cx) * np.sin(angle) + (yy - cy) * np.cos(angle) + rng.normal(0, 0.004) * along**2
    length, width = rng.uniform(8, size), rng.uniform(0.5, 5)
    alpha = np.clip(0.5 - (np.abs(across) - width), 0, 1) * np.clip(0.5 - (np.abs(along) - length / 2), 0, 1)
    image += (alpha * rng.uniform(0.3, 1))[..., None] * (rng.uniform(0, 255, 3) - image)


def look(rng: np.random.Generator, image: Array) -> Look:
    """Return a random style; a fifth of them differ from the ground by a few grey levels only."""
    ground = image.mean((0, 1))
    if rng.random() < 0.2:
        colour = ground + rng.choice([-1, 1]) * rng.uniform(18, 40) + rng.normal(0, 6, 3)
    else:
        colour = rng.uniform(10, 245, 3)
        if np.abs(colour - ground).max() < 25:
            colour = np.where(ground > 127, ground - 60, ground + 60)
    return Look(
        colour=np.asarray(colour, np.float32),
        texture=float(rng.uniform(0, 28) * (rng.random() < 0.7)),
        texture_scale=float(rng.uniform(0.06, 0.5)),
        relief=float(rng.uniform(-35, 35) * (rng.random() < 0.5)),
        bevel=float(rng.uniform(0, 60) * (rng.random() < 0.5)),
        rim=float(rng.uniform(-80, 80) * (rng.random() < 0.45)),
        rim_width=float(rng.uniform(0.04, 0.18)),
        light=float(rng.uniform(0, 2 * np.pi)),
        shadow=float(rng.uniform(0, 0.6) * (rng.random() < 0.35)),
        kind=int(rng.integers(0, 4)),
    )


def vary(rng: np.random.Generator, base: Look) -> Look:
    """Return the same style, a little lighter or darker, like coins of one metal."""
    values = {**base.__dict__, "colour": base.colour + np.float32(rng.normal(0, 12))}
    return Look(**values)


def position(
    rng: np.random.Generator, placed: list[tuple[float, float, float]], radius: float, size: int, *, touching: bool
) -> tuple[float, float]:
    """Return a centre in pixels: anywhere, or beside another object, with a gap of -15 % to +10 % of the radius."""
    margin = 0.5 * radius
    if placed and touching and rng.random() < 0.8:
        y, x, other = placed[int(rng.integers(len(placed)))]
        angle, distance = rng.uniform(0, 2 * np.pi), (radius + other) * rng.uniform(0.85, 1.1)
        near_y, near_x = y + distance * np.sin(angle), x + distance * np.cos(angle)
        if margin < near_y < size - margin and margin < near_x < size - margin:
            return float(near_y), float(near_x)
    free = [rng.uniform(margin, max(margin + 1, size - margin), 2) for _ in range(6)]
    gaps = [min((np.hypot(y - py, x - px) - pr for py, px, pr in placed), default=0.0) for y, x in free]
    best = free[int(np.argmax(gaps))] if rng.random() < 0.7 else free[0]
    return float(best[0]), float(best[1])


def distance_field(rng: np.random.Generator, kind: int, yy: Array, xx: Array, radius: float) -> Array:
    """Return the signed distance in pixels of LABELS[kind] at the origin, about as large as a circle of ``radius``."""
    angle = rng.uniform(0, 2 * np.pi)
    u = xx * np.cos(angle) + yy * np.sin(angle)
    v = -xx * np.sin(angle) + yy * np.cos(angle)
    if kind == 1:
        stretch = np.exp(rng.normal(0, 0.04))
        return np.asarray(np.hypot(u * stretch, v / stretch) - radius, np.float32)
    if kind == 2:
        half = radius * 0.886
        stretch = np.exp(rng.normal(0, 0.06))
        return np.asarray(np.maximum(np.abs(u) - half * stretch, np.abs(v) - half / stretch), np.float32)
    corners = np.radians([90, 210, 330]) + rng.normal(0, 0.12, 3)
    py, px = 1.45 * radius * np.sin(corners), 1.45 * radius * np.cos(corners)
    edges = []
    for i in range(3):
        j = (i + 1) % 3
        ey, ex = py[j] - py[i], px[j] - px[i]
        edges.append(((v - py[i]) * -ex + (u - px[i]) * ey) / np.hypot(ey, ex))
    return np.asarray(np.maximum.reduce(edges), np.float32)


def paint(rng: np.random.Generator, canvas: Canvas, kind: int, place: tuple[float, float, float], style: Look) -> bool:
    """Paint one object, unless it or one under it would be less than MIN_VISIBLE visible; return whether it did."""
    size = canvas.ids.shape[0]
    y, x, radius = place
    reach = int(np.ceil(radius * 1.7)) + 3
    y0, x0 = max(0, int(y) - reach), max(0, int(x) - reach)
    y1, x1 = min(size, int(y) + reach + 1), min(size, int(x) + reach + 1)
    yy, xx = np.mgrid[y0:y1, x0:x1].astype(np.float32)
    sdf = distance_field(rng, kind, np.asarray(yy - y, np.float32), np.asarray(xx - x, np.float32), radius)
    inside = sdf < 0
    full = int(inside.sum()) if kind == 3 else int(np.pi * radius**2)
    full = max(full, int(2.7 * radius**2)) if kind == 3 else full
    ids = canvas.ids[y0:y1, x0:x1]
    after = np.where(inside, np.uint8(len(canvas.classes) + 1), ids)
    if inside.sum() < max(MIN_AREA_PX, MIN_VISIBLE * full):
        return False
    before = np.bincount(canvas.ids.ravel(), minlength=MAX_INSTANCES + 2)
    lost = np.bincount(ids[inside].ravel(), minlength=MAX_INSTANCES + 2)
    for i, area in enumerate(canvas.full_areas):
        if before[i + 1] - lost[i + 1] < max(MIN_AREA_PX, MIN_VISIBLE * area):
            return False
    shade(rng, canvas.image[y0:y1, x0:x1], sdf, radius, style)
    canvas.ids[y0:y1, x0:x1] = after
    canvas.classes.append(kind)
    canvas.full_areas.append(full)
    return True


def shade(rng: np.random.Generator, image: Array, sdf: Array, radius: float, style: Look) -> None:
    """Blend one object into ``image`` in place: shadow, flat colour, texture, relief, bevel and rim."""
    if style.shadow:
        offset = (0.12 * radius * np.sin(style.light), 0.12 * radius * np.cos(style.light))
        fallen = ndimage.shift(sdf, offset, order=1, mode="nearest")
        image *= (1 - style.shadow * np.clip(0.5 - fallen / max(1.5, 0.15 * radius), 0, 1))[..., None]
    depth = np.clip(-sdf / radius, 0, 1)
    tone = style.relief * (depth - 0.4)
    if style.texture:
        side = max(sdf.shape)
        grain = noise(rng, side, max(1.5, style.texture_scale * radius))[: sdf.shape[0], : sdf.shape[1]]
        tone = tone + style.texture * grain
        if style.kind == 1:  # an embossed motif in the middle, as on a coin
            height = ndimage.gaussian_filter(grain, 0.08 * radius) * (depth > 0.25)
            gy, gx = np.gradient(height)
            tone = tone + 3 * style.texture * np.clip(gy * np.sin(style.light) + gx * np.cos(style.light), -1, 1)
    if style.bevel:
        gy, gx = np.gradient(sdf)
        edge = np.exp(-depth / 0.12)
        tone = tone - style.bevel * edge * (gy * np.sin(style.light) + gx * np.cos(style.light))
    if style.rim:
        tone = tone + style.rim * (depth < style.rim_width)
    alpha = np.clip(0.5 - sdf, 0, 1)[..., None]
    image += alpha * (style.colour + tone[..., None] - image)


def finish(rng: np.random.Generator, image: Array) -> NDArray[np.uint8]:
    """Add what a camera adds: uneven light, grey, blur, noise, clipping to uint8."""
    size = image.shape[0]
    if rng.random() < 0.4:
        image = image * (1 + rng.uniform(0, 0.25) * np.clip(noise(rng, size, size / 2), -2, 2))[..., None]
    if rng.random() < 0.4:
        image = np.repeat(image.mean(-1, keepdims=True), 3, axis=-1)
    if rng.random() < 0.6:
        sigma = rng.uniform(0.3, 1.3)
        image = ndimage.gaussian_filter(image, (sigma, sigma, 0))
    if rng.random() < 0.7:
        grain = rng.standard_normal((size, size, 3 if rng.random() < 0.5 else 1)).astype(np.float32)
        image = image + rng.uniform(1, 14) * grain
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def boxes_of(ids: NDArray[np.uint8], count: int) -> NDArray[np.float32]:
    """Return tight boxes float32 [count, 4] of ids 1..count: y1, x1, y2, x2 in pixels, exclusive; 0 if absent."""
    boxes = np.zeros((count, 4), np.float32)
    for i, found in enumerate(ndimage.find_objects(ids, max_label=count)):
        if found is not None:
            boxes[i] = found[0].start, found[1].start, found[0].stop, found[1].stop
    return boxes
