"""The models that the commands know by name: ``--model``, or ``make demo MODEL=people``."""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.models.people import export as people
from deploy.models.people import wheel
from deploy.models.shapes import bundled
from deploy.models.shapes import export as shapes
from deploy.tools.processes import ROOT, RunError


@dataclass(frozen=True)
class Model:
    """A model: the name it is served by, its exports, and the photograph of scikit-image that shows it.

    ``kinds``: what it is exported as, for the demo; the function asks for int8, the last. ``folder``: of the exports,
    below build/models. ``sources``, ``files``: what the exports are made of. ``prepare`` raises RunError if a part is
    missing. ``export`` is the exporter's command line: its arguments -> exit code.
    """

    name: str
    title: str
    photo: str
    kinds: tuple[str, ...]
    folder: str
    sources: tuple[str, ...]
    files: tuple[Path, ...]
    prepare: Callable[[], None]
    export: Callable[[Sequence[str]], int]


def _check_weights() -> None:
    if not bundled.WEIGHTS.is_file():
        raise RunError(f"the bundled model needs {bundled.WEIGHTS.relative_to(ROOT)}, which is missing: make train")


def _download() -> None:
    wheel.networks(people.FOLDER)


SHAPES = Model(
    name="shapes",
    title="the bundled model",
    photo="coins",
    kinds=("float32", "int8-cast", "int8"),
    folder="",
    sources=("deploy/export", "deploy/models/shapes", "handler"),
    files=(bundled.WEIGHTS,),
    prepare=_check_weights,
    export=shapes.main,
)
PEOPLE = Model(
    name="people",
    title="the model of people",
    photo="astronaut",
    kinds=("int8",),
    folder="people",
    sources=("deploy/export", "deploy/models/people", "handler"),
    files=(people.LABELS,),
    prepare=_download,
    export=people.main,
)
MODELS = {model.name: model for model in (SHAPES, PEOPLE)}


def add_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--model``, a name."""
    parser.add_argument("--model", choices=MODELS, default=SHAPES.name, help="which one (%(default)s)")
