"""Measure how close to the dense model text gets at about one bit, in larger models and longer runs.

    python -m experiments.gap_to_dense          # train what is missing, then print the table
    python -m experiments.gap_to_dense --show   # the table of what is there

Each setting is compared with the dense model of its size and steps. A distilled one is also compared with a dense model
that is distilled.
"""

from collections.abc import Sequence
from dataclasses import replace

from experiments import markdown
from experiments.settings import TEXT, bottlenecks, dense, distilled, ranked, spikes
from experiments.sweep import Line, bits, find, main, nats, reseeded, wire_bits
from snap_jax.training.config import Settings

BUDGET, MORE = 1.0, 1.15


def settings(base: Settings) -> dict[str, Settings]:
    """Return the settings by what is particular about each."""
    longer = replace(base, steps=base.steps * 10 // 3)
    wide, wider = (replace(base, width=base.width * n) for n in (2, 4))
    once = replace(longer, width=wide.width, layers=max(1, base.layers // 2), devices=max(1, base.devices // 2))
    one_boundary = spikes(once, BUDGET, budget=MORE, rank=ranked(once, 44 / 128))
    return {
        "ours": spikes(base, BUDGET),
        "int4 x rank 16": bottlenecks(base, BUDGET)[0],
        "distilled": distilled(spikes(base, BUDGET)),
        "int4 x rank 16, distilled": distilled(bottlenecks(base, BUDGET)[0]),
        "longer run": spikes(longer, BUDGET),
        "1.15 bits, longer run, distilled": distilled(spikes(longer, BUDGET, budget=MORE, rank=ranked(base, 24 / 64))),
        "width 128": spikes(wide, BUDGET, link="count:31+rans"),
        "width 128, int4 x rank 32": bottlenecks(wide, BUDGET)[0],
        "width 256": spikes(wider, BUDGET, link="count:31+rans"),
        "1.15 bits, width 128, one boundary, longer run": one_boundary,
        "the same, seed 1": reseeded(one_boundary, 1),
    }


def pairs(base: Settings) -> list[Settings]:
    """Return every setting after the dense models it is compared with, none twice."""
    each = [[dense(c), *([distilled(dense(c), c.distill)] if c.distill else []), c] for c in settings(base).values()]
    return list(dict.fromkeys(config for group in each for config in group))


def table(base: Settings, lines: Sequence[Line]) -> str:
    """Return bits, quality, and loss increase over the dense models."""
    unit = f"bits per {base.unit}"
    rows = [("setting", "bits per element", unit, "dense", "loss increase", "dense, distilled", "loss increase")]
    for name, config in settings(base).items():
        line, without = find(config, lines), find(dense(config), lines)
        if line and without:
            teacher = find(distilled(dense(config), config.distill), lines) if config.distill else None
            compared = [*_increase(line, without), *(_increase(line, teacher) if teacher else ("", ""))]
            rows.append((name, f"{wire_bits(line):.3f}", f"{bits(line):.4f}", *compared))
    return markdown.table(rows)


def _increase(line: Line, base: Line) -> tuple[str, str]:
    return f"{bits(base):.4f}", markdown.percent(nats(line) / nats(base) - 1)


if __name__ == "__main__":
    main(__doc__, TEXT, pairs, table)
