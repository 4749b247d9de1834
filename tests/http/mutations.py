"""Hostile requests of all kinds in turn, the same for the same seed."""

import functools
import random
from collections.abc import Callable, Iterator

from tests.http import bodies, bombs, faults
from tests.http.corpus import samples
from tests.http.damage import ANY, OF_FORMAT
from tests.http.request import TYPES, Hostile, photo, photos, valid

__all__ = ["Hostile", "hostile"]
FLOOD_EVERY = 200


def hostile(count: int, seed: int) -> Iterator[Hostile]:
    """Yield ``count`` requests, every 200th of them a flood."""
    rng = random.Random(seed)
    builders: list[Callable[[random.Random], Hostile]] = []
    builders += [functools.partial(_damaged, kind) for kind in (*ANY, *OF_FORMAT)] * 2
    builders += [functools.partial(_wrapped, wrap) for wrap in ("json", "multipart")]
    builders += [*bodies.BUILDERS, *faults.BUILDERS]
    builders += [functools.partial(_bomb, name) for name in bombs.BOMBS]
    for index in range(count):
        floods, within = divmod(index, FLOOD_EVERY)
        if within == FLOOD_EVERY - 1:
            yield bombs.flood(bombs.FLOODS[floods % len(bombs.FLOODS)])
        else:
            yield builders[(index - floods) % len(builders)](rng)


@functools.cache
def _small_samples():
    return [sample.data for sample in samples() if len(sample.data) < 4000]


def _image(rng):
    return rng.choice(_small_samples()) if rng.random() < 0.3 else photo(rng)


def _damage(kind, rng):
    if kind in ANY:
        return ANY[kind](rng, _image(rng))
    image_kind, damage = OF_FORMAT[kind]
    return damage(rng, rng.choice(photos()[image_kind]))


def _bomb(name, _):
    return bombs.bomb(name)


def _damaged(kind, rng):
    body = _damage(kind, rng)
    return Hostile(f"image: {kind}", body, rng.choice(TYPES), harmless=valid(body))


def _wrapped(wrap, rng):
    data = _damage(rng.choice((*ANY, *OF_FORMAT)), rng)
    body, content_type = bodies.json_with(data) if wrap == "json" else bodies.form_with(data)
    return Hostile(f"{wrap}: a damaged image", body, content_type, harmless=valid(data))
