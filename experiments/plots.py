"""Plots of frontiers: quality against wire bits, a marker a method."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt

_KINDS = {
    "spikes": ("o-", "spikes, to a budget"),
    "bottleneck": ("s", "learned bottleneck + integers"),
    "integer": ("^", "integers, learned step"),
    "absmax": ("v", "integers, absmax"),
    "topk": ("x", "top-k"),
}


def frontier(lines: Sequence[dict], title: str, quality: str, unit: str, out: Path) -> None:
    """One picture: all lines of one task, dense as a level; both axes say their unit."""
    figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    for name, (mark, label) in _KINDS.items():
        points = sorted((line["wire_bits"], line[quality]) for line in lines if kind_of(line) == name)
        if points:
            axes.plot(*zip(*points, strict=True), mark, label=label, markersize=5, linewidth=1)
    dense = [line[quality] for line in lines if line["method"] == "dense"]
    axes.axhline(sum(dense) / len(dense), color="black", linewidth=0.8, linestyle=":", label="dense")
    best = min(line[quality] for line in lines)
    axes.set(xlabel="wire bits an element", ylabel=unit, title=title, xlim=(0, 4.5))
    axes.set_ylim(best - 0.02 * abs(best), max(line[quality] for line in lines if kind_of(line) == "spikes") * 1.08)
    axes.legend(fontsize=8)
    axes.grid(alpha=0.3)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out)
    plt.close(figure)


def kind_of(line: dict) -> str:
    """Which family a line belongs to.

    >>> kind_of({"method": "int4:absmax", "rank": 0}), kind_of({"method": "integer", "rank": 16})
    ('absmax', 'bottleneck')
    """
    if line["method"] == "integer":
        return "bottleneck" if line["rank"] else "integer"
    if line["method"].startswith("topk"):
        return "topk"
    return "absmax" if line["method"].startswith("int") else line["method"]
