"""Class names from a file: a name a line, JSON, COCO's categories, a label map, or Ultralytics' metadata."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

ITEM = re.compile(r"^\s*item\s*:?\s*\{", re.MULTILINE)  # of a label map


def read_labels(path: Path) -> dict[int, str]:
    """Return the names by class id, 1 and up. Raises ValueError if the file is something else.

    Text: class 1 in the first line; empty lines do not count. JSON: ``{"1": "person"}``, ``["person"]`` from class 1
    on, ``{"categories": [{"id": 1, "name": "person"}]}``, or that list alone. A label map of the Object Detection API:
    ``item { id: 1 name: "person" }``, the ``display_name`` if there is one.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"must be a text file, got {path}: {error}") from error
    if text.lstrip()[:1] in ("{", "["):
        labels = _from_json(text, path)
    else:
        labels = _from_label_map(text, path) if ITEM.search(text) else _from_lines(text)
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


def _from_label_map(text: str, path: Path) -> dict[int, str]:
    labels: dict[int, str] = {}
    for item in ITEM.split(text)[1:]:
        number = re.search(r"\bid\s*:\s*(\d+)", item)
        names = [re.search(rf"\b{key}\s*:\s*([\"'])(.*?)\1", item) for key in ("display_name", "name")]
        name = next(filter(None, names), None)
        if number is None or name is None:
            raise ValueError(f"must be a label map with an id and a name in each item, got {path}, in which {item!r}")
        if int(number[1]) in labels:
            raise ValueError(
                f"must be a label map with an id for each item, got {path}, in which {number[1]} comes twice"
            )
        labels[int(number[1])] = name[2]
    return labels


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
