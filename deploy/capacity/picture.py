"""Bandwidth and instances against the rate of photographs, on logarithmic axes, with the limits as lines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from deploy.capacity import plan
from deploy.capacity.figures import Request
from deploy.capacity.plan import Assumptions

RATES = [10 ** (hundredth / 100) for hundredth in range(501)]  # 1 .. 100,000 images a second
COLOURS = {"int8": "tab:blue", "float32": "tab:orange"}
GROUND = {"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 1.5}  # under text that lies on lines


def draw(requests: Sequence[Request], given: Assumptions, path: Path) -> None:
    """Write the picture as PNG. Raises OSError."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.4), layout="constrained")
    _limit(left, given.gbit_per_instance, f"one instance: {given.gbit_per_instance:g} Gbit/s", "right")
    _limit(left, given.gbit_per_instance * given.max_instances, f"{given.max_instances:g} instances", "left")
    _limit(right, given.max_instances, f"instances allowed: {given.max_instances:g}", "left")
    for request in requests:
        needs = plan.needs([request], RATES, given)
        colour, name = COLOURS[request.numbers], request.numbers
        left.plot(RATES, [need.to_model for need in needs], color=colour, label=f"{name}, to the model")
        left.plot(RATES, [need.from_model for need in needs], ":", color=colour, label=f"{name}, from the model")
        label = name if request.measured else f"{name}, at least"
        right.plot(RATES, [need.instances for need in needs], color=colour, label=label)
        _crossing(right, given.max_instances * min(plan.instance_limits(request, given).values()), given, colour)
    left.set(ylabel="Gbit/s between function and model", ylim=(1e-3, 1e6))
    right.set(ylabel="instances of the function", ylim=(0.7, 1e6))
    for axes in (left, right):
        axes.set(xscale="log", yscale="log", xlabel="images a second", xlim=(RATES[0], RATES[-1]))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
        axes.grid(alpha=0.3)
        axes.legend(loc="upper left")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _limit(axes: Axes, value: float, text: str, end: Literal["left", "right"]) -> None:
    """Draw a limit as a line, named below it at one end."""
    axes.axhline(value, color="0.35", linestyle="--", linewidth=1.2)
    x, inward = (RATES[0], 5) if end == "left" else (RATES[-1], -5)
    place = {"xy": (x, value), "xytext": (inward, -4), "textcoords": "offset points", "bbox": GROUND}
    axes.annotate(text, **place, ha=end, va="top", color="0.25", zorder=5)  # type: ignore[arg-type]


def _crossing(axes: Axes, rate: float, given: Assumptions, colour: str) -> None:
    """Mark where all the instances that are allowed are full."""
    if RATES[0] < rate < RATES[-1]:
        axes.plot([rate], [given.max_instances], "o", color=colour)
        place = {"xy": (rate, given.max_instances), "xytext": (6, -5), "textcoords": "offset points"}
        axes.annotate(f"{rate:,.0f}/s", **place, va="top", color=colour)  # type: ignore[arg-type]
