"""The charts of the report as inline SVG: bytes a request, and histograms."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

Figures = Mapping[str, Any]
CHART_PX, BAR_PX, LABEL_PX, COUNT_PX = 400, 12, 100, 42  # a chart, a bar's height, room for text


def draw_charts(figures: Figures) -> str:
    """Return the cards of the charts: bytes, and histograms of masks, scores and boxes."""
    kinds = list(figures["kinds"])
    legend = "".join(f'<span class="{kind}"><span class="key"></span>{kind}</span>' for kind in kinds)
    legend = f'<div class="legend">{legend}</div>'
    objects = "objects by"
    titles = {
        "iou": ("Masks", f"{objects} mask IoU with float32"),
        "scores": ("Scores", f"{objects} difference of the score, 0 to 1"),
        "boxes": ("Boxes", f"{objects} greatest difference of a side, share of the frame"),
    }
    cards = [("Bytes a request", "PredictRequest up, PredictResponse down; mean", _bytes_chart(figures), "")]
    cards += [(*titles[name], _histogram(figures["histograms"][name], kinds), legend) for name in titles]
    return "".join(
        f'<div class="card"><h3>{title}</h3><p class="sub">{sub}</p>{chart}{end}</div>'
        for title, sub, chart, end in cards
    )


def _bytes_chart(figures: Figures) -> str:
    """Draw a bar for each kind: bytes up, and paler bytes down."""
    greatest = max(sum(one.values()) for one in figures["bytes"].values())
    parts, step, bar = [], 82, f'height="{2 * BAR_PX}" rx="3"'
    for place, (kind, one) in enumerate(figures["bytes"].items()):
        top, (up, down) = step * place + 20, (CHART_PX * one[way] / greatest for way in ("up", "down"))
        total = whole(figures, kind) + ("" if kind == "float32" else f", {ratio(figures, kind)}")
        parts.append(
            f'<g class="{kind}"><text y="{top - 8}" class="strong">{kind}</text>'
            f'<text x="{CHART_PX}" y="{top - 8}" text-anchor="end" class="strong">{total}</text>'
            f'<rect class="track" y="{top}" width="{CHART_PX}" {bar}/><rect y="{top}" width="{up:.1f}" {bar}/>'
            f'<rect class="down" x="{up:.1f}" y="{top}" width="{down:.1f}" {bar}/>'
            f'<text y="{top + 40}">{size(one["up"])} up, {size(one["down"])} down (paler)</text></g>'
        )
    label = "; ".join(f"{kind} {whole(figures, kind)}" for kind in figures["bytes"])
    return (
        f'<svg viewBox="0 0 {CHART_PX} {step * len(parts) - 14}" role="img" aria-label="{label}">{"".join(parts)}</svg>'
    )


def _histogram(chart: Figures, kinds: Sequence[str]) -> str:
    """Draw for each bin a bar for each kind, with its count."""
    greatest = max(1, *(max(chart[kind]) for kind in kinds))
    step, room, parts = BAR_PX * len(kinds) + 9, CHART_PX - LABEL_PX - COUNT_PX, []
    for place, label in enumerate(chart["bins"]):
        middle = step * place + BAR_PX * len(kinds) / 2 + 4
        parts.append(f'<text x="{LABEL_PX - 10}" y="{middle}" text-anchor="end">{label}</text>')
        for row, kind in enumerate(kinds):
            count, top = chart[kind][place], step * place + BAR_PX * row
            width, css = max(1.5, room * count / greatest), "strong" if count else "none"
            bar = f'x="{LABEL_PX}" y="{top + 1}" width="{width:.1f}" height="{BAR_PX - 2}" rx="2"'
            parts.append(
                f'<g class="{kind}"><rect {bar}/>'
                f'<text x="{LABEL_PX + width + 6:.1f}" y="{top + 10}" class="{css}">{count}</text></g>'
            )
    height = step * len(chart["bins"]) - 6
    label = "; ".join(f"{kind}: {_spoken(chart['bins'], chart[kind])}" for kind in kinds)
    return f'<svg viewBox="0 0 {CHART_PX} {height}" role="img" aria-label="{escape(label)}">{"".join(parts)}</svg>'


def _spoken(bins: Sequence[str], counts: Sequence[int]) -> str:
    return ", ".join(f"{count} {label}" for label, count in zip(bins, counts, strict=True) if count) or "none"


def size(count: float) -> str:
    """Return bytes, to three digits."""
    if count < 1000:
        return f"{count:.0f} bytes"
    value, unit = (count / 1e3, "kB") if count < 999_500 else (count / 1e6, "MB")
    return f"{value:.{2 if value < 9.995 else 1 if value < 99.95 else 0}f} {unit}"


def whole(figures: Figures, kind: str) -> str:
    """Return the bytes of a request of a kind, both ways."""
    return size(sum(figures["bytes"][kind].values()))


def factor(figures: Figures, kind: str) -> float:
    """Return how many times fewer bytes a kind moves than float32."""
    totals = {name: sum(one.values()) for name, one in figures["bytes"].items()}
    return float(totals["float32"] / totals[kind])


def ratio(figures: Figures, kind: str) -> str:
    """Return the bytes of a kind as a fraction of float32's."""
    times = factor(figures, kind)
    return f"1/{times:.1f}" if times > 1 else f"{1 / times:.1f}"
