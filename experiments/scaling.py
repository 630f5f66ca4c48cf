"""Question: how many wire bits an element keep a model within 1 % of dense, as it grows or is cut more often.

    python -m experiments.scaling          # what is not yet in runs/pareto.jsonl, then the tables
    python -m experiments.scaling --show   # tables of what is there

Each size is trained dense, and with spikes at three budgets; between them, the logarithm of the relative loss is
taken to be linear in the bits.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace

from experiments.pareto import FILE, STEPS, spikes
from experiments.points import Point
from experiments.sweeps import command, find

WIDTHS = (16, 32, 64, 128)
BLOCKS = (2, 4, 8)  # one, three and seven boundaries
BUDGETS = (1.0, 2.0, 3.0)
WITHIN = 0.01
_AS_WIDE = 64  # where the number of boundaries varies


def points(width: int, blocks: int) -> list[Point]:
    """Dense, and spikes at each budget as in `pareto`, their dims in proportion."""
    named = 0 if width == _AS_WIDE else width  # that of the task, so `pareto` has it already
    ours = [spikes("text", bits, width=named, blocks=blocks) for bits in BUDGETS]
    wide = [replace(point, rank=math.ceil(point.rank * width / _AS_WIDE)) for point in ours]
    if width > _AS_WIDE:
        wide = [replace(point, limit=31) for point in wide]  # 15 spikes lose 1 % at two bits: their first dims saturate
    return [Point("text", "dense", steps=STEPS["text"], width=named, blocks=blocks), *wide]


def needed(losses: Sequence[tuple[float, float]], within: float = WITHIN) -> float:
    """Bits at which the relative loss is `within`, from `(bits, relative loss)`; infinite or 0 where out of sight.

    Two neighbours that enclose it, or the two last ones, fix the line `log(loss) = a + b bits`.

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


def row(width: int, blocks: int, lines: Sequence[dict]) -> str | None:
    """One size, if all of it is there."""
    found = [line for point in points(width, blocks) if (line := find(point, lines))]
    if len(found) < 1 + len(BUDGETS):
        return None
    dense, *coded = found
    losses = [(line["wire_bits"], line["nats"] / dense["nats"] - 1) for line in coded]
    shown = " | ".join(f"{100 * loss:+.1f} % @ {bits:.2f}" for bits, loss in losses)
    bits = needed(losses)
    sure = "" if losses[-1][1] <= WITHIN else "extrapolated: "
    wanted = f"below {losses[0][0]:.2f}" if not bits else f"{sure}{bits:.2f}"
    return f"| {width} | {blocks - 1} | {dense['bits_per_byte']:.4f} | {shown} | {wanted} |"


def tables(lines: Sequence[dict]) -> str:
    """By width, then by boundaries."""
    head = (
        "| width | boundaries | dense, bits/byte | loss @ bits | loss @ bits | loss @ bits | bits for 1 % |\n"
        "|---|---|---|---|---|---|---|"
    )
    sizes = [[(width, 4) for width in WIDTHS], [(_AS_WIDE, blocks) for blocks in BLOCKS]]
    rows = [[text for size in group if (text := row(*size, lines))] for group in sizes]
    return "\n\n".join("\n".join([head, *group]) for group in rows)


def all_points() -> list[Point]:
    """The cheap ones first; no size twice."""
    sizes = dict.fromkeys([*((width, 4) for width in WIDTHS), *((_AS_WIDE, blocks) for blocks in BLOCKS)])
    return [point for size in sizes for point in points(*size)]


if __name__ == "__main__":
    command(__doc__, FILE, all_points(), tables)
