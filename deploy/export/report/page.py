"""The report as one HTML page that asks for nothing from outside; page.html is its template.

``figures`` is what deploy.export.report.folder writes as JSON.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from deploy.export.kinds import WRAP
from deploy.export.report.charts import draw_charts, factor, ratio, size, whole

Figures = Mapping[str, Any]
GOOD_IOU, GOOD_GAP = 0.99, 1e-3  # mean mask IoU, boxes and scores that count as what float32 answers
NONE = "\u2013"  # a dash, for a figure without objects


def share(value: float | None) -> str:
    """Return an IoU, never rounded up to 1."""
    return NONE if value is None else "1" if value == 1 else f"{math.floor(value * 1e4) / 1e4:.4f}"


def gap(value: float) -> str:
    """Return a difference, never rounded to 0."""
    return "0" if value == 0 else f"{value:.2g}"


def count(number: int, noun: str) -> str:
    """Return a number of things in words."""
    return f"{number} {noun}{'s' * (number != 1)}"


TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
TEMPLATES.filters |= {"share": share, "count": count}
ROWS = (  # name, note, how a figure of it is written, and its key
    ("lost", "found by float32 alone", str, "lost"),
    ("extra", "not found by float32", str, "extra"),
    ("of these, another class", "at the same place", str, "class_changes"),
    ("mask IoU", "mean", share, "iou_mean"),
    ("least mask IoU", "of masks above 200 px", share, "iou_min_large"),
    ("boxes", "greatest difference, share of the frame", gap, "box_difference"),
    ("scores", "greatest difference", gap, "score_difference"),
)


class Line(NamedTuple):
    """A row of a table: ``cells`` are of float32 and of each kind."""

    name: str
    note: str
    cells: Sequence[str]
    css: str = ""


def render(figures: Figures, pictures: Sequence[Mapping[str, str]]) -> str:
    """Return the page; ``pictures`` are data: URLs of each image, by kind and by ``KIND difference``."""
    images = figures["images"]
    return TEMPLATES.get_template("page.html").render(
        figures=figures,
        wrap=WRAP,
        verdict=verdict(figures),
        good=figures["instances"] and is_good(figures["kinds"]["int8"]),
        saving=_saving(figures, "int8-cast") if "int8-cast" in figures["kinds"] else "",
        summary=_summary(figures),
        charts=draw_charts(figures),
        shots=zip(images, pictures, map(_facts, images), strict=True),
    )


def is_good(row: Figures) -> bool:
    """Whether an export, by its figures, answers as float32 does."""
    same = row["lost"] == row["extra"] == 0
    close = row["iou_mean"] is None or row["iou_mean"] >= GOOD_IOU
    return bool(same and close and max(row["box_difference"], row["score_difference"]) <= GOOD_GAP)


def verdict(figures: Figures) -> str:
    """Return what to make of the int8 export, in a sentence."""
    row, found = figures["kinds"]["int8"], figures["instances"]
    images, objects = count(len(figures["images"]), "image"), count(found, "object")
    weight = f"{_saving(figures, 'int8')} ({whole(figures, 'int8')} a request, not {whole(figures, 'float32')})"
    if not found and not row["extra"]:
        labels = ", ".join(figures["labels"].values()) or "it does not name them"
        return (
            f"No object was found in {images}, so only bytes can be compared: int8 moves {weight}. "
            f"Try images of what the model knows ({labels})."
        )
    iou = f"mean mask IoU {share(row['iou_mean'])}"
    if is_good(row):
        apart = max(row["box_difference"], row["score_difference"])
        same = "equal boxes and scores" if apart == 0 else f"boxes and scores within {gap(apart)}"
        return f"In {images}, int8 answers as float32 does: {objects}, {same}, {iou}. It moves {weight}."
    return (
        f"In {images}, int8 differs from float32: {row['lost']} of {objects} lost, {row['extra']} extra, {iou}. "
        f"Look at them below before you deploy it. It moves {weight}."
    )


def _summary(figures: Figures) -> list[Line]:
    """Return the rows of the table over all images."""
    kinds, ways = figures["kinds"], ("float32", *figures["kinds"])
    found = [str(row["instances"] - row["lost"] + row["extra"]) for row in kinds.values()]
    pixels = [f"{row['pixels_gone'] + row['pixels_come']:,}" for row in kinds.values()]
    lines = [
        Line("objects", "", [str(figures["instances"]), *found], "main"),
        Line("bytes", "a request, up and down", [whole(figures, way) for way in ways], "main"),
        Line("of float32's bytes", "", ["1", *(ratio(figures, kind) for kind in kinds)]),
        *(_line(row, kinds) for row in ROWS),
    ]
    if "int8-cast" in kinds:
        saturated = NONE if figures["saturated_share"] is None else f"{figures['saturated_share']:.1%}"
        lines.append(Line("saturated", "mask probabilities without a code", ["", saturated, "0"]))
    return [*lines, Line("pixels that differ", "in all images", ["", *pixels])]


def _facts(one: Figures) -> list[Line]:
    """Return the rows of the table of one image."""
    sent, ways = one["bytes"], ("float32", *one["kinds"])
    return [
        *(_line(row, one["kinds"])._replace(note="") for row in ROWS[3:]),
        *(Line(way, "", [size(sent[kind][way]) for kind in ways]) for way in ("up", "down")),
    ]


def _line(row: tuple[str, str, Any, str], kinds: Figures) -> Line:
    name, note, form, key = row
    return Line(name, note, ["", *(form(kind[key]) for kind in kinds.values())])


def _saving(figures: Figures, kind: str) -> str:
    times = factor(figures, kind)
    return f"{times:.1f} times fewer bytes" if times > 1 else f"{1 / times:.1f} times the bytes"
