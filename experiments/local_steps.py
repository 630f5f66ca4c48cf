"""Question: how few bytes do data replicas need, with coded gradients and with local steps.

    python -m experiments.local_steps          # train what is missing, then print the table
    python -m experiments.local_steps --show   # the table of what is there

Four replicas of a small language model share each batch of text: a transformer that trains for 1000 steps, and an RWKV
that trains for 300. All settings of a seed start from one dense model, and read the same batches. Bytes are those of
the compiled programs that leave all devices, per step.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from experiments import markdown
from experiments.settings import TEXT, started
from experiments.sweep import Line, bits, main, nats, reseeded, seeds
from snap_jax.training.config import Settings

SIZE = {"model": "transformer", "width": 32, "heads": 2, "seq_len": 64, "batch": 32}
BASE = replace(TEXT, **SIZE, steps=1000, learning_rate=4e-3, layout="data")
SEEDS = 3
PLAIN_MEAN = {"outer_lr": 1.0, "outer_momentum": 0.0}
METHODS: dict[str, dict[str, Any]] = {
    "floats": {},
    "30 local steps, floats": {"local_steps": 30},
    "30 local steps, floats, plain mean": {"local_steps": 30} | PLAIN_MEAN,
    "30 local steps, ternary": {"local_steps": 30, "link": "data=ternary"},
    "30 local steps, count:3": {"local_steps": 30, "link": "data=count:3"},
    "ternary": {"link": "data=ternary"},
    "30 local steps, topk of 1.56 %, 2 bits": {"local_steps": 30, "link": "data=topk:0.0156:2"},
    "5 local steps, floats": {"local_steps": 5},
    "5 local steps, floats, plain mean": {"local_steps": 5} | PLAIN_MEAN,
    "topk of 1.56 %, 4 bits": {"link": "data=topk:0.0156"},
    "ternary, entropy-coded": {"link": "data=count:1+rans"},
}
REPEATED = ("floats", "30 local steps, count:3", "30 local steps, topk of 1.56 %, 2 bits")


def settings(base: Settings) -> list[Settings]:
    """Return every method with seed 0, the repeated ones with other seeds, and every method in a short run."""
    first, short = ([method(one, name) for name in METHODS] for one in (base, shorter(base)))
    again = [reseeded(method(base, name), seed) for seed in range(1, SEEDS) for name in REPEATED]
    return [*first, *again, *short]


def shorter(base: Settings) -> Settings:
    """Return the RWKV that trains for 300 steps."""
    sizes = {name: getattr(TEXT, name) for name in (*SIZE, "learning_rate")}
    return replace(base, **sizes, steps=300)


def method(base: Settings, name: str) -> Settings:
    """Return the settings of a method."""
    changes = METHODS[name]
    return replace(started(base), **{"mode": "hybrid" if "link" in changes else "dense"} | changes)


def table(base: Settings, lines: Sequence[Line]) -> str:
    """Return bytes and loss of each method, against floats in every step, for both models."""
    head = ("steps", "method", "bytes per step", "fewer bytes", f"bits per {base.unit}", "loss increase", "seeds")
    found = [row for one in (base, shorter(base)) for name in METHODS for row in _rows(one, name, lines)]
    return markdown.table([head, *found])


def _rows(base: Settings, name: str, lines: Sequence[Line]) -> list[tuple[str, ...]]:
    """The row of a method, if there is one."""
    found, dense = seeds(method(base, name), lines, SEEDS), seeds(method(base, "floats"), lines, SEEDS)
    pairs = list(zip(found, dense, strict=False))
    if not pairs:
        return []
    sent = [sum(sent_bytes(line) for line in side) / len(pairs) for side in zip(*pairs, strict=True)]
    increases = [100 * (nats(line) / nats(reference) - 1) for line, reference in pairs]
    mean, count = sum(map(bits, found)) / len(found), str(len(pairs))
    fewer = f"{sent[1] / sent[0]:,.1f}x"
    increase = f"{markdown.spread(increases, 2)} %"
    return [(str(base.steps), name, f"{sent[0]:,.0f}", fewer, f"{mean:.4f}", increase, count)]


def sent_bytes(line: Line) -> int:
    """Return the bytes that leave all devices in one step, with its share of an exchange."""
    return line["wire"]["forward_bytes_per_step"] + line["wire"]["backward_bytes_per_step"]


if __name__ == "__main__":
    main(__doc__, BASE, settings, table)
