"""Question: how near to dense can text be at about one bit, in larger models and longer runs.

    python -m experiments.near          # what is not yet in runs/pareto.jsonl, then the table
    python -m experiments.near --show   # table of what is there

Each setting stands beside the dense model of its size and steps; one that learns from a dense teacher also beside a
dense model that does.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from experiments.pareto import FILE, bottlenecks, spikes
from experiments.points import Point
from experiments.sweeps import command, find

OURS = spikes("text", 1.0)


def settings() -> dict[str, Point]:
    """By what is particular of each."""
    once: dict[str, Any] = {"bits": 1.15, "rank": 44, "width": 128, "blocks": 2, "steps": 2000}
    return {
        "as in `pareto`": OURS,
        "int4 x 16 dims": bottlenecks("text", 1.0)[0],
        "dense teacher": replace(OURS, distill=0.5),
        "int4 x 16 dims, dense teacher": bottlenecks("text", 1.0, distill=0.5)[0],
        "2000 steps": replace(OURS, steps=2000),
        "1.15 bits, 2000 steps, dense teacher": replace(OURS, bits=1.15, rank=24, steps=2000, distill=0.5),
        "width 128": replace(OURS, width=128, rank=40, limit=31),
        "width 128, int4 x 32 dims": Point("text", "integer", 4, 32, steps=OURS.steps, width=128),
        "width 256": replace(OURS, width=256, rank=80, limit=31),
        "1.15 bits, width 128, cut once, 2000 steps": replace(OURS, **once),
        "the same, seed 1": replace(OURS, **once, seed=1),
    }


def dense_of(point: Point, *, distill: float = 0.0) -> Point:
    """The dense model of the same size and steps."""
    size = {"width": point.width, "blocks": point.blocks, "steps": point.steps, "seed": point.seed}
    return Point("text", "dense", distill=distill, **size)


def all_points() -> list[Point]:
    """Each with what it stands beside; none twice."""
    pairs = [(dense_of(p), *([dense_of(p, distill=p.distill)] if p.distill else []), p) for p in settings().values()]
    return list(dict.fromkeys(point for pair in pairs for point in pair))


def table(lines: Sequence[dict]) -> str:
    """Wire bits, quality, and the loss against dense."""
    rows = ["| setting | wire bits | bits/byte | dense | loss | dense, taught | loss |", "|" + "---|" * 7]
    for name, point in settings().items():
        found, dense = find(point, lines), find(dense_of(point), lines)
        taught = find(dense_of(point, distill=point.distill), lines) if point.distill else None
        if found and dense:
            losses = [_loss(found, of) for of in (dense, taught)]
            rows.append(f"| {name} | {found['wire_bits']:.3f} | {found['bits_per_byte']:.4f} | {' | '.join(losses)} |")
    return "\n".join(rows)


def _loss(found: dict, dense: dict | None) -> str:
    if dense is None:
        return " | "
    return f"{dense['bits_per_byte']:.4f} | {found['nats'] / dense['nats'] - 1:+.2%}"


if __name__ == "__main__":
    command(__doc__, FILE, all_points(), table)
