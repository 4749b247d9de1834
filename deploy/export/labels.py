"""Class names from a file: a name a line, JSON of ids and names, COCO's categories, or Ultralytics' metadata."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml


def read_labels(path: Path) -> dict[int, str]:
    """Return the names by class id, 1 and up. Raises ValueError if the file is something else.

    Text: class 1 in the first line; empty lines do not count. JSON: ``{"1": "person"}``, ``["person"]`` from class 1
    on, ``{"categories": [{"id": 1, "name": "person"}]}``, or that list alone.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"must be a text file, got {path}: {error}") from error
    labels = _from_json(text, path) if text.lstrip()[:1] in ("{", "[") else _from_lines(text)
    if not labels:
        raise ValueError(f"must name at least one class, got none in {path}")
    if min(labels) < 1:
        raise ValueError(f"must have class ids from 1, as 0 is the background, got {min(labels)} in {path}")
    return dict(sorted(labels.items()))


def read_ultralytics(path: Path) -> dict[int, str]:
    """Return the names by class id, 1 and up, of a ``metadata.yaml``, where the first class is 0; none if it has none.

    Raises ValueError if the file is no YAML, or if its names are no text by class id.
    """
    expected = "the model's metadata.yaml must have names by class id"
    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{expected}, got {error}") from error
    names = value.get("names", {}) if isinstance(value, dict) else None
    if not isinstance(names, dict) or not all(isinstance(key, int) and isinstance(names[key], str) for key in names):
        raise ValueError(f"{expected}, got {names}")
    return {key + 1: name for key, name in sorted(names.items())}


def _from_lines(text: str) -> dict[int, str]:
    names = (line.strip() for line in text.splitlines())
    return dict(enumerate(filter(None, names), start=1))


def _from_json(text: str, path: Path) -> dict[int, str]:
    expected = f"must be JSON of ids and names, or COCO categories, got {path}"
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{expected}: {error}") from error
    if isinstance(value, dict) and "categories" in value:
        value = value["categories"]
    if isinstance(value, list) and all(isinstance(name, str) for name in value):
        return dict(enumerate(value, start=1))
    pairs: list[tuple[Any, Any]] = list(value.items()) if isinstance(value, Mapping) else _pairs(value, expected)
    labels: dict[int, str] = {}
    for given, name in pairs:
        if not (isinstance(name, str) and str(given).isdigit()):
            raise ValueError(f"{expected}, in which {given!r} is {name!r}")
        if int(given) in labels:
            raise ValueError(f"{expected}, in which class {given} comes twice")
        labels[int(given)] = name
    return labels


def _pairs(value: list[Any], expected: str) -> list[tuple[Any, Any]]:
    try:
        return [(category["id"], category["name"]) for category in value]
    except (KeyError, TypeError) as error:
        raise ValueError(f"{expected}, in which an entry has no id and name") from error
