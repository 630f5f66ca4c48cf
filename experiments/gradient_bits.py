"""Measure how many bits the backward pass needs, and how few are enough in both directions together.

    python -m experiments.gradient_bits          # train what is missing, then print the table
    python -m experiments.gradient_bits --show   # the table of what is there

The gradient of what was sent is coded with `--grad-link`. Its scales come from the data.
"""

from collections.abc import Sequence
from dataclasses import replace

from experiments import markdown
from experiments.settings import TEXT, dense, spikes
from experiments.sweep import Line, bits, find, grad_bits, main, nats, wire_bits
from snap_jax.training.config import Settings

LINKS = ("bf16", "int8:block32", "int4:block32", "int3:block32", "int2:block32", "topk:0.1")
LEAST = "int4:block32"  # the least that learns
_BOTH_BF16 = 32  # bits per element, forward and backward


def settings(base: Settings) -> list[Settings]:
    """Return two bits forward with every backward link, other budgets, one boundary, and a longer run."""
    once = replace(base, layers=max(1, base.layers // 2), devices=max(1, base.devices // 2))
    longer = replace(base, steps=base.steps * 10 // 3)
    return [
        *(spikes(base, 2.0, grad_link=link) for link in LINKS),
        *(spikes(base, budget, grad_link=LEAST) for budget in (1.0, 3.0)),
        spikes(once, 2.0, grad_link=LEAST),
        spikes(longer, 2.0, budget=2.25, grad_link=LEAST),
    ]


def pairs(base: Settings) -> list[Settings]:
    """Return every setting after its dense model, none twice."""
    return list(dict.fromkeys(config for each in settings(base) for config in (dense(each), each)))


def table(base: Settings, lines: Sequence[Line]) -> str:
    """Return bits in each direction, and the loss increase over the dense model."""
    head = ("boundaries", "steps", "budget", "backward link", "bits forward", "bits backward", "of bf16 in both",
            f"bits per {base.unit}", "loss increase")  # fmt: skip
    rows = [head]
    for config in settings(base):
        line, without = find(config, lines), find(dense(config), lines)
        if line and without:
            forward, backward = wire_bits(line), grad_bits(line)
            rows.append(
                (
                    str(config.devices - 1),
                    str(config.steps),
                    str(config.budget),
                    config.backward_link,
                    f"{forward:.3f}",
                    f"{backward:.2f}",
                    f"1/{_BOTH_BF16 / (forward + backward):.1f}",
                    f"{bits(line):.4f}",
                    markdown.percent(nats(line) / nats(without) - 1),
                )
            )
    return markdown.table(rows)


if __name__ == "__main__":
    main(__doc__, TEXT, pairs, table)
