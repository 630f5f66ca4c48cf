"""Question: what did each ingredient buy, at one bit; and what does the same help do for the rivals.

    python -m experiments.ablations          # what is not yet in runs/pareto.jsonl, then the table
    python -m experiments.ablations --show   # table of what is there

A setting whose bits are not one bit (a fixed price has to be found by hand) is to be read beside the frontier.
"""

from collections.abc import Sequence

from experiments.pareto import FILE, bottlenecks, spikes
from experiments.points import Point
from experiments.sweeps import command, find

BITS = 1.0
_LEFT = 0.94  # of one bit, where tokens predict: with theirs it is 1.2 % more than one


def settings() -> dict[str, Point]:
    """By name; the first is ours, each other differs in what it says."""
    ours = spikes("text", BITS)
    return {
        "ours: basis of 20, 4 tokens predict, 8 segments": ours,
        "no segments": spikes("text", BITS, token_groups=1),
        "16 segments": spikes("text", BITS, token_groups=16),
        "no prediction, no segments": spikes("text", BITS, context_tokens=0, token_groups=1),
        "one token predicts": spikes("text", BITS, context_tokens=1),
        "no basis, no mean, no prediction, no segments": spikes("text", BITS, rank=0, context_tokens=0, token_groups=1),
        "basis at the pace of the layers": spikes("text", BITS, lr_multiplier=1.0),
        "basis at a tenth of it": spikes("text", BITS, lr_multiplier=0.1),
        "basis of 16": spikes("text", BITS, rank=16),
        "basis of 24": spikes("text", BITS, rank=24),
        "basis of 32": spikes("text", BITS, rank=32),
        "all 64 dims": spikes("text", BITS, rank=64),
        "at most one spike": spikes("text", BITS, limit=1),
        "at most three": spikes("text", BITS, limit=3),
        "dead zone 0.6": spikes("text", BITS, dead_zone=0.6),
        "dead zone 0.7": spikes("text", BITS, dead_zone=0.7),
        "budget comes down for half the run": spikes("text", BITS, anneal_fraction=0.5),
        "half of the loss from the dense model": spikes("text", BITS, distill=0.5),
        **{f"fixed price {w} nats a bit": spikes("text", BITS, penalty=f"penalty:{w}") for w in (0.03, 0.1)},
        **{f"L1, {w} nats a spike": spikes("text", BITS, penalty=f"l1:{w}") for w in (0.05, 0.2)},
        **{f"target rate {r}": spikes("text", BITS, penalty=f"rate:{r}") for r in (0.3, 0.6)},
        **{f"thresholds raised, {w}": spikes("text", BITS, penalty=f"raise:{w}") for w in (0.03, 0.1)},
        "int4 x 16 dims": bottlenecks("text", BITS)[0],
        "int4 x 16 dims, basis at the pace of the layers": bottlenecks("text", BITS, lr_multiplier=1.0)[0],
        "int4 x 15 dims, 4 tokens predict": bottlenecks("text", _LEFT, context_tokens=4)[0],
        "int4 x 16 dims, half of the loss from the dense model": bottlenecks("text", BITS, distill=0.5)[0],
        "dense, half of the loss from the dense model": Point("text", "dense", steps=ours.steps, distill=0.5),
        "int3 x 20 dims, 4 tokens predict": bottlenecks("text", _LEFT, context_tokens=4)[1],
        "two bits: ours": spikes("text", 2.0),
        "two bits: int4 x 32 dims": bottlenecks("text", 2.0)[0],
        "two bits: int4 x 31 dims, 4 tokens predict": bottlenecks("text", 1.0 + _LEFT, context_tokens=4)[0],
        "dense": Point("text", "dense", steps=ours.steps),
        "dense, through basis and prediction, uncoded": Point(
            "text", "dense", rank=64, context_tokens=4, steps=ours.steps
        ),
    }


def table(lines: Sequence[dict]) -> str:
    """Wire bits and quality of each."""
    rows = ["| setting | wire bits | bits/byte | against ours |", "|---|---|---|---|"]
    found = {name: find(point, lines) for name, point in settings().items()}
    ours = next(iter(found.values()))
    for name, line in found.items():
        if line and ours:
            difference = line["bits_per_byte"] - ours["bits_per_byte"]
            rows.append(f"| {name} | {line['wire_bits']:.3f} | {line['bits_per_byte']:.4f} | {difference:+.4f} |")
    return "\n".join(rows)


if __name__ == "__main__":
    command(__doc__, FILE, list(settings().values()), table)
