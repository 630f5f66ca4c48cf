"""Question: how many bits does the way back need, and how little is enough in both directions together.

    python -m experiments.backward          # what is not yet in runs/pareto.jsonl, then the table
    python -m experiments.backward --show   # table of what is there

The cotangent of what was sent is quantized as `grad_codec=` of the collective would, its scale taken from the data.
"""

import dataclasses
from collections.abc import Sequence

from experiments.pareto import FILE, spikes
from experiments.points import Point
from experiments.sweeps import command, find

LINKS = ("bf16", "int8:block32", "int4:block32", "int3:block32", "int2:block32", "topk:0.1")
FORWARD = (1.0, 2.0, 3.0)
_BOTH_BF16 = 32.0  # bits an element, there and back


def all_points() -> list[Point]:
    """Two bits forward and every way back; then the other budgets with the least way back that learns."""
    dense = Point("text", "dense", steps=600)
    several = [spikes("text", 2.0, grad=link) for link in LINKS]
    return [dense, *several, *(spikes("text", bits, grad="int4:block32") for bits in FORWARD if bits != 2.0)]


def once() -> list[Point]:
    """A model that is cut once, dense and at two bits with the same way back."""
    return [Point("text", "dense", steps=600, blocks=2), spikes("text", 2.0, blocks=2, grad="int4:block32")]


def longer() -> list[Point]:
    """2000 steps, dense and at a little more than two bits with the same way back."""
    ours = spikes("text", 2.0, grad="int4:block32")
    return [Point("text", "dense", steps=2000), dataclasses.replace(ours, bits=2.25, steps=2000)]


def table(lines: Sequence[dict]) -> str:
    """Bits each way, and the loss against dense."""
    rows = [
        "| boundaries | steps | forward | back | bits forward | bits back | of bf16 both ways | bits/byte | loss |",
        "|" + "---|" * 9,
    ]
    pairs = [*((all_points()[0], point) for point in all_points()[1:]), tuple(once()), tuple(longer())]
    for dense, point in pairs:
        base, line = find(dense, lines), find(point, lines)
        if line and base:
            both = line["wire_bits"] + line["grad_bits"]
            loss = 100 * (line["nats"] / base["nats"] - 1)
            rows.append(
                f"| {point.blocks - 1} | {point.steps} | budget {point.bits} | {point.grad} | "
                f"{line['wire_bits']:.3f} | {line['grad_bits']:.2f} | "
                f"1/{_BOTH_BF16 / both:.1f} | {line['bits_per_byte']:.4f} | {loss:+.2f} % |"
            )
    return "\n".join(rows)


if __name__ == "__main__":
    command(__doc__, FILE, [*all_points(), *once(), *longer()], table)
