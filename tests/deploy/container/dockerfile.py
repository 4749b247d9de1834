"""The Dockerfile as it is written: instructions, images, settings, commands."""

import json
import re
import shlex
from pathlib import Path

ROOT = Path(__file__).parents[3]
DOCKERFILE = ROOT / "deploy" / "container" / "Dockerfile"


def instructions():
    """Return (instruction, its text on one line) in order, comments left out."""
    text = re.sub(r"^\s*#.*\n", "", DOCKERFILE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    lines = text.replace("\\\n", "").splitlines()
    return [tuple(line.split(maxsplit=1)) for line in lines if line]


def named(name):
    """Return the texts of the instructions of one name."""
    return [text for instruction, text in instructions() if instruction == name]


def base_image():
    """Return the one image that every stage comes from, in the end."""
    stages = {text.split(" AS ")[1] for text in named("FROM") if " AS " in text}
    (image,) = {text.split(" AS ")[0] for text in named("FROM")} - stages
    return image


def command():
    return json.loads(named("CMD")[-1])


def healthcheck():
    """Return the command whose exit code tells whether the container is healthy."""
    (text,) = named("HEALTHCHECK")
    return json.loads(text.partition("CMD ")[2])


def settings():
    """Return the environment that the last stage sets."""
    return dict(pair.split("=", 1) for text in named("ENV") for pair in shlex.split(text))


def copied():
    """Return what comes out of the build context, by its name there, mapped to its place in /app."""
    found = {}
    for text in named("COPY"):
        if not text.startswith("--from="):
            *sources, target = text.split()
            found |= {source: target if len(sources) == 1 and target != "./" else source for source in sources}
    return {source: target.rstrip("/") for source, target in found.items()}
