"""Question: do spikes, between chips or everywhere, cost pictures.

    python -m experiments.vision            # trains what is not yet in runs/vision.jsonl, then prints the table
    python -m experiments.vision --show     # the table of what is there
    python -m experiments.vision --scale 2  # twice the steps, twice the width

scikit-learn's digits and an MS-ResNet of four blocks, a boundary between any two. Every way has the same data, steps,
optimizer and seeds, a fifth of the steps dense. Wanted: dense at 98 % of the test pictures or more, and the hybrid
within half a point of it at 1.5 wire bits an element at most. Wire bits are those of payloads of the test pictures,
headers included, an element of the stream that is cut; a spiking model sends four ticks of it.
"""

import statistics
from collections.abc import Sequence
from pathlib import Path

from experiments.asking import fill, parser
from experiments.pricing import markdown, spread
from experiments.sweeps import load
from experiments.ways import Trial, Way, find

FILE = Path("runs/vision.jsonl")
DENSE = Way("ANN, float links", "dense")
HYBRID = Way("hybrid, 1.5 bits", "spikes", 1.5, share=8 / 32)
SPIKING = Way("SNN, 4 ticks", "ternary+bitplanes", 1.2, ticks=4)
FRUGAL = Way("hybrid, 1 bit", "spikes", 1.0, share=8 / 32)
WAYS = (DENSE, HYBRID, SPIKING, FRUGAL)
WANTED, WITHIN, MOST_BITS = 98.0, 0.5, 1.5  # percent, points, bits


def trials(task: str, ways: Sequence[Way], seeds: Sequence[int], scale: float) -> list[Trial]:
    """All seeds of one way after those of the way before, as the table has them."""
    return [Trial(task, way, seed, scale) for way in ways for seed in seeds]


def grouped(wanted: Sequence[Trial], file: Path) -> dict[str, list[dict]]:
    """The lines of each way."""
    lines, groups = load(file), {}
    for trial in wanted:
        if (line := find(trial, lines)) is not None:
            groups.setdefault(trial.way.name, []).append(line)
    return groups


def table(groups: dict[str, list[dict]]) -> str:
    """Mean and standard deviation over seeds."""
    rows = [("way", "seeds", "test accuracy", "nats", "wire bits an element", "seconds a run")]
    for name, group in groups.items():
        bits = statistics.mean(line["wire_bits"] for line in group)
        rows.append(
            (
                name,
                str(len(group)),
                spread([line["accuracy"] for line in group], 2) + " %",
                spread([line["nats"] for line in group], 4),
                f"{bits:.3f}" if bits else "32",
                f"{statistics.mean(line['seconds'] for line in group):.0f}",
            )
        )
    return markdown(rows)


def verdict(groups: dict[str, list[dict]]) -> str:
    """Whether what was wanted was found."""
    if DENSE.name not in groups or HYBRID.name not in groups:
        return "not all there yet"
    dense, hybrid = (statistics.mean(line["accuracy"] for line in groups[w.name]) for w in (DENSE, HYBRID))
    bits = max(line["wire_bits"] for line in groups[HYBRID.name])
    good = dense >= WANTED, dense - hybrid <= WITHIN, bits <= MOST_BITS
    said = (
        f"dense {dense:.2f} % (wanted {WANTED})",
        f"hybrid {dense - hybrid:+.2f} points worse (at most {WITHIN})",
        f"{bits:.3f} wire bits at most (at most {MOST_BITS})",
    )
    return "; ".join(f"{text}: {'yes' if yes else 'NO'}" for text, yes in zip(said, good, strict=True))


def main(arguments: list[str] | None = None) -> None:
    asked = parser(__doc__, FILE, [0, 1, 2]).parse_args(arguments)
    wanted = trials("digits", WAYS, asked.seeds, asked.scale)
    fill(wanted, asked, programs=False)
    groups = grouped(wanted, asked.file)
    print(f"{table(groups)}\n\n{verdict(groups)}")


if __name__ == "__main__":
    main()
