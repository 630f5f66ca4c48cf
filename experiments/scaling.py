"""Measure how many bits per element keep a model within 1 % of dense, as it grows or has more boundaries.

    python -m experiments.scaling          # train what is missing, then print the tables
    python -m experiments.scaling --show   # the tables of what is there

Each size is trained dense, and with spikes at three budgets. Between them the logarithm of the relative loss increase
is taken to be linear in the bits.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace

from experiments import markdown
from experiments.settings import TEXT, dense, spikes
from experiments.sweep import Line, bits, find, main, nats, wire_bits
from snap_jax.training.config import Settings

WIDTHS = (16, 32, 64, 128)
BOUNDARIES = (1, 3, 7)
BUDGETS = (1.0, 2.0, 3.0)
WITHIN = 0.01


def size(base: Settings, width: int, boundaries: int) -> list[Settings]:
    """Return the dense model of a size, and spikes at each budget with the rank in proportion to the width."""
    base = replace(base, width=width, layers=boundaries + 1, devices=boundaries + 1)
    most = {"link": "count:31+rans"} if width > TEXT.width else {}  # 15 spikes saturate the first channels there
    return [dense(base), *(spikes(base, budget, **most) for budget in BUDGETS)]


def sizes(base: Settings) -> tuple[list[list[Settings]], list[list[Settings]]]:
    """Return all sizes: by width, and by number of boundaries."""
    widths = [size(base, base.width * width // TEXT.width, base.layers - 1) for width in WIDTHS]
    return widths, [size(base, base.width, boundaries) for boundaries in BOUNDARIES]


def settings(base: Settings) -> list[Settings]:
    """Return the settings of all sizes, none twice."""
    return list(dict.fromkeys(config for group in sizes(base) for each in group for config in each))


def needed(losses: Sequence[tuple[float, float]], within: float = WITHIN) -> float:
    """Return the bits at which the relative loss increase is `within`, from pairs `(bits, relative loss increase)`.

    The two neighbors that enclose it, or the last two, fix the line `log(loss) = a + b bits`. Return 0 if the first
    pair is already within, infinity if the loss does not fall.

    >>> round(needed([(1.0, 0.04), (2.0, 0.02), (3.0, 0.01)], 0.02), 3)
    2.0
    >>> needed([(1.0, 0.005), (2.0, 0.004)])
    0.0
    """
    ordered = sorted(losses)
    if ordered[0][1] <= within:
        return 0.0
    pairs = list(itertools.pairwise(ordered))
    (b0, l0), (b1, l1) = next((pair for pair in pairs if pair[1][1] <= within), pairs[-1])
    if l1 >= l0:
        return math.inf
    slope = (math.log(max(l1, 1e-4)) - math.log(l0)) / (b1 - b0)
    return b0 + (math.log(within) - math.log(l0)) / slope


def row(configs: Sequence[Settings], lines: Sequence[Line]) -> tuple[str, ...] | None:
    """Return the row of one size; None while a run is missing."""
    found = [line for config in configs if (line := find(config, lines))]
    if len(found) < len(configs):
        return None
    without, *coded = found
    losses = [(wire_bits(line), nats(line) / nats(without) - 1) for line in coded]
    required = needed(losses)
    extrapolated = "" if losses[-1][1] <= WITHIN else "extrapolated: "
    text = f"{extrapolated}{required:.2f}" if required else f"below {losses[0][0]:.2f}"
    shown = (f"{markdown.percent(loss, 1)} at {sent:.2f}" for sent, loss in losses)
    return str(configs[0].width), str(configs[0].devices - 1), f"{bits(without):.4f}", *shown, text


def tables(base: Settings, lines: Sequence[Line]) -> str:
    """Return a table by width, then one by boundaries."""
    loss = ["loss increase at bits"] * len(BUDGETS)
    head = ("width", "boundaries", f"dense, bits per {base.unit}", *loss, "bits for 1 %")
    groups = ([found for each in group if (found := row(each, lines))] for group in sizes(base))
    return "\n\n".join(markdown.table([head, *rows]) for rows in groups)


if __name__ == "__main__":
    main(__doc__, TEXT, settings, tables)
