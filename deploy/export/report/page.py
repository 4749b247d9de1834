"""The report as one HTML page that asks for nothing from outside: verdict, figures, charts, every image.

``figures`` is what deploy.export.report.folder writes as JSON; all text from outside is escaped.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from deploy.export.report.charts import draw_charts, factor, ratio, size, whole

Figures = Mapping[str, Any]
GOOD_IOU, GOOD_GAP = 0.99, 1e-3  # mean mask IoU, boxes and scores that count as what float32 answers
NONE = "\u2013"  # a dash, for a figure that nothing was found for
STYLE = (Path(__file__).parent / "page.css").read_text(encoding="utf-8")
SCRIPT = (Path(__file__).parent / "page.js").read_text(encoding="utf-8")
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


def share(value: float | None) -> str:
    """Return an IoU, never rounded up to 1."""
    return NONE if value is None else "1" if value == 1 else f"{math.floor(value * 1e4) / 1e4:.4f}"


def gap(value: float) -> str:
    """Return a difference, 0 only where it is."""
    return "0" if value == 0 else f"{value:.2g}"


ROWS = (  # what, how a figure of it is written, and its key
    ("lost<small>found by float32 alone</small>", str, "lost"),
    ("extra<small>not found by float32</small>", str, "extra"),
    ("of these, another class<small>at the same place</small>", str, "class_changes"),
    ("mask IoU<small>mean</small>", share, "iou_mean"),
    ("least mask IoU<small>of masks above 200 px</small>", share, "iou_min_large"),
    ("boxes<small>greatest difference, share of the frame</small>", gap, "box_difference"),
    ("scores<small>greatest difference</small>", gap, "score_difference"),
)
FACTS = tuple((name.partition("<")[0], form, key) for name, form, key in ROWS[3:])


def render(figures: Figures, pictures: Sequence[Mapping[str, str]]) -> str:
    """Return the page; ``pictures`` are data: URLs of each image, by kind and by ``KIND difference``."""
    shots = "".join(_shot(one, shown) for one, shown in zip(figures["images"], pictures, strict=True))
    count = _count(len(figures["images"]), "image")
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<title>What int8 costs on {count}</title><style>{STYLE}</style></head><body><main>
<p class="kicker">{escape(figures["source"])}, {escape(figures["dialect"])} · {count}</p>
{_verdict(figures)}
<section class="card scroll">{_summary(figures)}</section>
{_left_out(figures)}
<h2>Over all images</h2><section class="charts">{draw_charts(figures)}</section>
<h2>Image by image</h2>
<p class="note" style="margin-bottom:1rem">Tap a picture to enlarge it. Below each export: pixels that
<span class="swatch" style="background:#ff8400"></span>only float32 gives to an object,
<span class="swatch" style="background:#00c8ff"></span>only the export does; widened, so that a single one shows.</p>
{shots}
<h2>How this was measured</h2><section class="card note">{_method(figures)}</section>
</main><dialog><img alt=""></dialog><script>{SCRIPT}</script></body></html>
"""


def is_good(row: Figures) -> bool:
    """Whether an export, by its figures, answers as float32 does."""
    same = row["lost"] == row["extra"] == 0
    close = row["iou_mean"] is None or row["iou_mean"] >= GOOD_IOU
    return bool(same and close and max(row["box_difference"], row["score_difference"]) <= GOOD_GAP)


def verdict(figures: Figures) -> str:
    """Return what to make of the int8 export, in a sentence."""
    row, found = figures["kinds"]["int8"], figures["instances"]
    images, objects = _count(len(figures["images"]), "image"), _count(found, "object")
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


def _verdict(figures: Figures) -> str:
    known = figures["instances"] and is_good(figures["kinds"]["int8"])
    more, row = "", figures["kinds"].get("int8-cast")
    if row is None:
        more = "There is no int8-cast export of this kind of model; float32 here is the model called directly."
    elif figures["instances"]:
        more = (
            f"The recipe moves {_saving(figures, 'int8-cast')}; it loses {row['lost']} of "
            f"{_count(figures['instances'], 'object')}, adds {row['extra']}, has a mean mask IoU of "
            f"{share(row['iou_mean'])} and no code for {figures['saturated_share']:.1%} of the mask probabilities."
        )
    text = f"<p>{escape(more)}</p>" if more else ""
    return (
        f'<section class="card verdict{"" if known else " look"}"><h1>{escape(verdict(figures))}</h1>{text}</section>'
    )


def _summary(figures: Figures) -> str:
    """Return the table of all figures: a column for each kind, so that it fits a phone."""
    kinds = figures["kinds"]
    found = [str(row["instances"] - row["lost"] + row["extra"]) for row in kinds.values()]
    totals, ratios = [whole(figures, kind) for kind in kinds], [ratio(figures, kind) for kind in kinds]
    lines = [
        _line("objects", str(figures["instances"]), found, "main"),
        _line("bytes<small>a request, up and down</small>", whole(figures, "float32"), totals, "main"),
        _line("of float32's bytes", "1", ratios),
        *(_line(name, "", [form(row[key]) for row in kinds.values()]) for name, form, key in ROWS),
    ]
    if "int8-cast" in kinds:
        saturated = NONE if figures["saturated_share"] is None else f"{figures['saturated_share']:.1%}"
        lines.append(_line("saturated<small>mask probabilities without a code</small>", "", [saturated, "0"]))
    pixels = [f"{row['pixels_gone'] + row['pixels_come']:,}" for row in kinds.values()]
    lines.append(_line("pixels that differ<small>in all images</small>", "", pixels))
    return _table(("float32", *kinds), lines, "summary")


def _table(kinds: Sequence[str], lines: Sequence[str], css: str) -> str:
    head = "".join(f'<th scope="col" class="{kind}"><span class="key"></span>{kind}</th>' for kind in kinds)
    return f'<table class="{css}"><thead><tr><th></th>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table>'


def _line(name: str, reference: str, cells: Sequence[str], css: str = "") -> str:
    body = "".join(f"<td{' class=zero' if text == '0' else ''}>{text}</td>" for text in (reference, *cells))
    return f'<tr class="{css}"><th scope="row">{name}</th>{body}</tr>'


def _left_out(figures: Figures) -> str:
    parts = [f"<li><b>{escape(one['name'])}</b>: {escape(one['reason'])}</li>" for one in figures["skipped"]]
    if figures["other_files"]:
        names = ", ".join(escape(name) for name in figures["other_files"][:12])
        parts.append(f"<li>{_count(len(figures['other_files']), 'file')} not JPEG, PNG or WebP by name: {names}</li>")
    return f'<section class="card notice"><h3>Left out</h3><ul>{"".join(parts)}</ul></section>' if parts else ""


def _shot(one: Figures, pictures: Mapping[str, str]) -> str:
    columns = [f'<div class="col">{_figure(one, pictures, "float32", "reference")}{_facts(one)}</div>']
    for kind, row in one["kinds"].items():
        found = row["instances"] - row["lost"] + row["extra"]
        text = f"{_count(found, 'object')}, {row['lost']} lost, {row['extra']} extra"
        where = f"{one['name']}: where {kind} differs from float32"
        under = _picture(pictures[f"{kind} difference"], where, _changed(one, row))
        columns.append(f'<div class="col">{_figure(one, pictures, kind, text)}{under}</div>')
    objects = _count(one["instances"], "object") if one["instances"] else "no objects"
    return (
        f'<article class="card shot"><header><h3>{escape(one["name"])}</h3>'
        f'<span class="sub">{one["width"]} &times; {one["height"]}, {objects}</span></header>'
        f'<div class="row">{"".join(columns)}</div></article>'
    )


def _changed(one: Figures, row: Figures) -> str:
    """Return how many pixels differ, 0 as such, and what share of the image they are."""
    count = row["pixels_gone"] + row["pixels_come"]
    if not count:
        return '<span class="same">0 pixels differ</span>'
    part = count / (one["height"] * one["width"])
    told = f"{part:.2%}" if part >= 0.0001 else "below 0.01%"
    return f"<b>{count:,} {'pixels differ' if count > 1 else 'pixel differs'}</b>, {told} of the image"


def _figure(one: Figures, pictures: Mapping[str, str], kind: str, text: str) -> str:
    caption = f'<span class="{kind}"><span class="key"></span></span><b>{kind}</b> · {text}'
    return _picture(pictures[kind], f"{one['name']}: what {kind} sees", caption)


def _picture(url: str, alt: str, caption: str) -> str:
    picture = f'<button class="zoom" type="button"><img loading="lazy" src="{url}" alt="{escape(alt)}"></button>'
    return f"<figure>{picture}<figcaption>{caption}</figcaption></figure>"


def _facts(one: Figures) -> str:
    """Return one image's figures as a small table."""
    kinds, sent = one["kinds"], one["bytes"]
    lines = [
        *(_line(name, "", [form(row[key]) for row in kinds.values()]) for name, form, key in FACTS),
        *(_line(way, size(sent["float32"][way]), [size(sent[kind][way]) for kind in kinds]) for way in ("up", "down")),
    ]
    note = ""
    if one["saturated_share"] is not None:
        note = f'<p class="note">The int8-cast export has no code for {one["saturated_share"]:.1%} of the mask probabilities.</p>'
    return f'<div class="scroll">{_table(("float32", *kinds), lines, "facts")}</div>{note}'


def _method(figures: Figures) -> str:
    direct = (
        " The bytes of float32 are those of the messages that would carry the model's own inputs and all of its "
        "outputs; they were not sent."
    )
    return (
        "<p>The reference is the float32 model, run by TensorFlow on the same pixels. Every export was written, loaded "
        "by the stand-in for TensorFlow Serving and asked over gRPC by the function's own client; bytes are those of "
        f"its messages, in the default encoding.{'' if 'int8-cast' in figures['kinds'] else direct} An object counts as "
        "found again where one of the same class overlaps its mask with an IoU of 0.5 or more; else it is lost, or "
        "extra. A mask probability p has no code in the recipe, cast(p * 255, int8), where p * 255 is above "
        "127.</p>"
    )


def _saving(figures: Figures, kind: str) -> str:
    times = factor(figures, kind)
    return f"{times:.1f} times fewer bytes" if times > 1 else f"{1 / times:.1f} times the bytes"


def _count(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' * (count != 1)}"
