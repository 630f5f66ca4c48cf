"""Plot held-out loss against bits per element: mean over seeds, with a band of one standard deviation."""

import statistics
from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt

from experiments.sweep import Line, bits, wire_bits

_KINDS = {
    "spikes": ("o-", "spikes, trained to a budget"),
    "coded integers": ("s-", "int4, entropy-coded, same transform and budget"),
    "bottleneck": ("D", "low-rank transform, integers of a fixed size"),
    "integers": ("^", "integers, learned step"),
    "absmax": ("v", "integers, absmax"),
    "topk": ("x", "top-k"),
}


def draw(lines: Sequence[Line], title: str, unit: str, out: Path) -> None:
    """Write the plot of one task to an SVG file; without lines, nothing."""
    if not lines:
        return
    figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    for kind_name, (mark, label) in _KINDS.items():
        points = _means([line for line in lines if kind(line) == kind_name])
        if points:
            x, y, deviation = zip(*points, strict=True)
            drawn = axes.plot(x, y, mark, label=label, markersize=5, linewidth=1)[0]
            low, high = ([a + sign * d for a, d in zip(y, deviation, strict=True)] for sign in (-1, 1))
            axes.fill_between(x, low, high, alpha=0.2, color=drawn.get_color(), linewidth=0)
    dense = [bits(line) for line in lines if kind(line) == "dense"]
    if dense:
        axes.axhline(statistics.mean(dense), color="black", linewidth=0.8, linestyle=":", label="dense")
    axes.set(xlabel="bits per element", ylabel=f"held-out bits per {unit}", title=title, xlim=(0, 4.5))
    worst = [bits(line) for line in lines if kind(line) in ("spikes", "dense")]
    if worst:
        axes.set_ylim(0.98 * min(map(bits, lines)), 1.08 * max(worst))
    axes.legend(fontsize=8)
    axes.grid(alpha=0.3)
    figure.savefig(out)
    plt.close(figure)


def kind(line: Line) -> str:
    """Return which family a line belongs to.

    >>> kind({"config": {"mode": "hybrid", "link": "int4", "rank": 16, "budget": None}})
    'bottleneck'
    """
    config = line["config"]
    if config["mode"] == "dense":
        return "dense"
    if config["budget"]:
        return "coded integers" if config["link"].startswith("int") else "spikes"
    if config["link"].startswith("int"):
        return "bottleneck" if config["rank"] else "absmax" if "absmax" in config["link"] else "integers"
    return config["link"].partition(":")[0]


def _means(lines: Sequence[Line]) -> list[tuple[float, float, float]]:
    """Bits per element, loss and its deviation, of each setting over its seeds."""
    groups: dict[str, list[Line]] = {}
    for line in lines:
        config = line["config"]
        groups.setdefault(f"{config['link']} {config['rank']} {config['budget']}", []).append(line)
    return sorted(
        (
            statistics.mean(map(wire_bits, group)),
            statistics.mean(map(bits, group)),
            statistics.stdev(map(bits, group)) if len(group) > 1 else 0.0,
        )
        for group in groups.values()
    )
