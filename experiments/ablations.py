"""Measure what each part of the method buys at one bit per element, and what it does for the baseline.

    python -m experiments.ablations          # train what is missing, then print the table
    python -m experiments.ablations --show   # the table of what is there

A penalty of a fixed weight does not meet a budget. Read its row beside the curve of `experiments.pareto`.
"""

import dataclasses
from collections.abc import Sequence

from experiments import markdown
from experiments.settings import (
    TEXT,
    bottlenecks,
    coded,
    coded_integers,
    dense,
    distilled,
    ranked,
    spikes,
)
from experiments.sweep import Line, bits, find, main, wire_bits
from snap_jax.training.config import Settings

BUDGET = 1.0
PENALTIES = (
    "bits:0.03",
    "bits:0.1",
    "spikes:0.05",
    "spikes:0.2",
    "rate:0.3",
    "rate:0.6",
    "threshold:0.03",
    "threshold:0.1",
)
_CONTEXT_BITS = 0.06  # what context tokens and token groups take at width 64: a baseline with them has less left


def settings(base: Settings) -> dict[str, Settings]:
    """Return the settings by name. The first is ours, each other one differs in what its name says."""
    ours, rank = spikes(base, BUDGET), ranked(base, 20 / 64)
    fixed = coded(base, "count:15+rans", rank, context_tokens=4, token_groups=8)
    left = bottlenecks(base, BUDGET - _CONTEXT_BITS, sizes=(4, 3), context_tokens=4)
    return {
        "ours: rank 20, 4 context tokens, 8 token groups": ours,
        "entropy-coded int4 in place of counts": coded_integers(base, BUDGET),
        "no token groups": spikes(base, BUDGET, token_groups=1),
        "16 token groups": spikes(base, BUDGET, token_groups=16),
        "no context tokens, no token groups": spikes(base, BUDGET, context_tokens=0, token_groups=1),
        "1 context token": spikes(base, BUDGET, context_tokens=1),
        **{f"transform learns at {lr} of the layers' rate": spikes(base, BUDGET, transform_lr=lr) for lr in (1.0, 0.1)},
        **{f"rank {n}": spikes(base, BUDGET, rank=ranked(base, n / 64)) for n in (16, 24, 32, 64)},
        **{f"counts up to {n}": spikes(base, BUDGET, link=f"count:{n}+rans") for n in (1, 3)},
        **{f"dead zone {zone}": spikes(base, BUDGET, link=f"count:15:dead{zone}+rans") for zone in (0.6, 0.7)},
        "budget falls for half the run": spikes(base, BUDGET, anneal=0.5),
        "distilled": distilled(ours),
        **{f"penalty {penalty}": dataclasses.replace(fixed, penalty=penalty) for penalty in PENALTIES},
        "int4 x rank 16": bottlenecks(base, BUDGET)[0],
        "int4 x rank 16, transform learns as the layers": bottlenecks(base, BUDGET, transform_lr=1.0)[0],
        "int4 x rank 15, 4 context tokens": left[0],
        "int3 x rank 20, 4 context tokens": left[1],
        "int4 x rank 16, distilled": distilled(bottlenecks(base, BUDGET)[0]),
        "two bits: ours": spikes(base, 2.0),
        "two bits: int4 x rank 32": bottlenecks(base, 2.0)[0],
        "two bits: int4 x rank 31, 4 context tokens": bottlenecks(base, 2.0 - _CONTEXT_BITS, context_tokens=4)[0],
        "dense": dense(base),
        "dense, distilled": distilled(dense(base)),
        "dense, through transform and prediction": dataclasses.replace(dense(base), rank=base.width, context_tokens=4),
    }


def table(base: Settings, lines: Sequence[Line]) -> str:
    """Return the bits and the quality of each setting."""
    found = {name: find(config, lines) for name, config in settings(base).items()}
    ours = next(iter(found.values()))
    rows = [("setting", "bits per element", f"held-out bits per {base.unit}", "difference from ours")]
    for name, line in found.items():
        if line and ours:
            rows.append((name, f"{wire_bits(line):.3f}", f"{bits(line):.4f}", f"{bits(line) - bits(ours):+.4f}"))
    return markdown.table(rows)


if __name__ == "__main__":
    main(__doc__, TEXT, lambda base: list(settings(base).values()), table)
