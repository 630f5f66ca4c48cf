"""The figure of docs/link-lab.md: seconds at each rate, and predictions against measurements."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from benchmarks.linklab.predict import Model, Row
from benchmarks.linklab.rates import UNLIMITED, bits_per_second

SHOWN = {
    "fp32": "#777777",
    "bf16": "#c8553d",
    "int8": "#e0a458",
    "count:3": "#1b6ca8",
    "ternary": "#2a9d5c",
    "count:3+rans": "#7b4fa3",
}


def draw(rows: Sequence[Row], model: Model, path: Path) -> None:
    """Save the figure as SVG, without a date, so that it is the same each time."""
    mpl.rcParams.update({"svg.hashsalt": "snap_jax", "font.size": 10})
    drawn, (left, right) = plt.subplots(1, 2, figsize=(10, 4.2), layout="constrained")
    limited = [row for row in rows if row["rate"] != UNLIMITED and row["program"] != "torch_peers"]
    _rates([row for row in limited if row.get("collective") == "all_gather" and row["elements"] == 2**20], left, model)
    _against(limited, right, model)
    drawn.savefig(path, metadata={"Date": None})
    plt.close(drawn)


def _rates(rows: Sequence[Row], axes: Axes, model: Model) -> None:
    for spec, color in SHOWN.items():
        mine = sorted((bits_per_second(row["rate"]) or 0.0, row) for row in rows if row["spec"] == spec)
        if mine:
            x = [rate for rate, _ in mine]
            axes.plot(x, [1e3 * row["seconds"] for _, row in mine], "o-", color=color, label=spec, lw=1.6)
            axes.plot(x, [1e3 * (model.seconds(row) or 0.0) for _, row in mine], ":", color=color, lw=1.2)
    axes.set(xscale="log", yscale="log", xlabel="rate of a link (bit/s)", ylabel="milliseconds")
    axes.set_title("all_gather of 2^20 elements, 4 hosts; dotted: predicted", fontsize=10, loc="left")
    axes.legend(fontsize=8, frameon=False)
    axes.grid(alpha=0.25)


def _against(rows: Sequence[Row], axes: Axes, model: Model) -> None:
    for program, color in (("collective_speed", "#1b6ca8"), ("gradient_sum", "#c8553d"), ("model_steps", "#2a9d5c")):
        pairs = [(1e3 * (model.seconds(row) or 0.0), 1e3 * row["seconds"]) for row in rows if row["program"] == program]
        pairs = [pair for pair in pairs if min(pair) > 0]
        axes.plot(*zip(*pairs, strict=True), ".", color=color, label=program) if pairs else None
    ends = axes.get_xlim()[1]
    axes.plot([1, ends], [1, ends], color="#777777", lw=1)
    axes.set(xscale="log", yscale="log", xlabel="predicted (ms)", ylabel="measured (ms)")
    axes.set_title("every program, code and rate", fontsize=10, loc="left")
    axes.legend(fontsize=8, frameon=False)
    axes.grid(alpha=0.25)
