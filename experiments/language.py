"""Question: what do spikes, between chips or everywhere, cost text.

    python -m experiments.language            # trains what is not yet in runs/headline.jsonl, then prints the table
    python -m experiments.language --show     # the table of what is there
    python -m experiments.language --scale 2  # twice the steps, twice the width

The standard library's text and an RWKV of four blocks, a boundary between any two. Every way has the same data, steps,
optimizer and seeds; what the headline has trained already is not trained again.
"""

import statistics

from experiments.asking import fill, parser
from experiments.headline import BASE, FILE, WAYS
from experiments.pricing import markdown, spread
from experiments.vision import grouped, trials
from experiments.ways import Way
from snap_jax.parallel.mesh import emulate_devices

ASKED = (BASE, "hybrid, 1 bit", "SNN, 4 ticks")
MIXED = Way("SNN, 4 ticks, 1 bit", "spikes", 1.0, share=24 / 64, context_tokens=4, ticks=4)


def ways() -> list[Way]:
    """Dense, hybrid, spiking, and spiking with the links of the hybrid."""
    return [way for name in ASKED for way in WAYS["text"] if way.name == name] + [MIXED]


def table(groups: dict[str, list[dict]]) -> str:
    """Mean and standard deviation over seeds; loss is what a way is worse than dense on bf16 links."""
    base = statistics.mean(line["bits_per_byte"] for line in groups[BASE])
    rows = [("way", "seeds", "held-out bits/byte", "loss", "wire bits an element", "fires inside")]
    for name, group in groups.items():
        quality = [line["bits_per_byte"] for line in group]
        bits = statistics.mean(line["wire_bits"] for line in group)
        rate = [line["inner_rate"] for line in group if line["inner_rate"] is not None]
        loss = f"{100 * (statistics.mean(quality) / base - 1):+.1f} %"
        inside = f"{statistics.mean(rate):.1%}" if rate else "–"
        rows.append((name, str(len(group)), spread(quality, 3), loss, f"{bits:.3f}", inside))
    return markdown(rows)


def main(arguments: list[str] | None = None) -> None:
    asked = parser(__doc__, FILE, [0]).parse_args(arguments)
    emulate_devices(4)
    wanted = trials("text", ways(), asked.seeds, asked.scale)
    fill(wanted, asked)
    groups = grouped(wanted, asked.file)
    print(table(groups) if BASE in groups else f"no line of {BASE!r} in {asked.file} yet")


if __name__ == "__main__":
    main()
