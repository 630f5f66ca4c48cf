"""Question: is a model that is dense inside chips and spikes between them 5.3 times as frugal, and 15.2 times as fast.

    python -m experiments.headline            # trains what is not yet in runs/headline.jsonl, then prints the tables
    python -m experiments.headline --show     # the tables of what is there
    python -m experiments.headline --scale 2  # twice the steps, twice the width

5.3x in energy and 15.2x in latency are what *Learnable Sparsification of Die-to-Die Communication via Spike-Based
Encoding* (arXiv:2501.08645, abstract) claims, at most, for the hybrid against dense-only and spiking-only models.

Every way trains with the same text, steps, optimizer and seeds; four chips in a row, a block each. What crosses is
read from the compiled program, payloads in the size they took. Systems are those of `snap-jax cost --list`; what has no
source has no number. Compute energy is Horowitz's (45 nm), float32 as it ran; speeds of chips are assumed, and said.
"""

from pathlib import Path

from experiments import pricing
from experiments.asking import fill, parser
from experiments.ways import Trial, Way
from snap_jax.parallel.mesh import emulate_devices

FILE = Path("runs/headline.jsonl")
BASE = "ANN, bf16 links"
WAYS = {
    "text": (
        Way(BASE, "bf16"),
        Way("ANN, int8 links", "integer", 8),
        Way("hybrid, 1 bit", "spikes", 1.0, share=20 / 64, context_tokens=4),
        Way("SNN, 4 ticks", "rate:4+bitplanes", 2.5, ticks=4),
        Way("hybrid, 1 bit, fixed size", "ternary+radix", 1.0, share=40 / 64, context_tokens=4),
        Way("hybrid, 1/2 bit", "spikes", 0.5, share=10 / 64, context_tokens=4),
        Way("ANN, int4 links", "integer", 4),
        Way("ANN, int4 bottleneck", "integer", 4, share=16 / 64),
    ),
    "digits": (
        Way(BASE, "bf16"),
        Way("ANN, int8 links", "integer", 8),
        Way("hybrid, 1 bit", "spikes", 1.0, share=12 / 32),
        Way("SNN, 4 ticks", "ternary+bitplanes", 1.2, ticks=4),
        Way("hybrid, 1 bit, fixed size", "ternary+radix", 1.0, share=20 / 32),
        Way("hybrid, 1/2 bit", "spikes", 0.5, share=8 / 32),
        Way("ANN, int4 links", "integer", 4),
        Way("ANN, int4 bottleneck", "integer", 4, share=8 / 32),
    ),
}


def trials(task: str, seeds: tuple[int, ...], scale: float) -> list[Trial]:
    """All ways of one seed before the next seed."""
    return [Trial(task, way, seed, scale) for seed in seeds for way in WAYS[task]]


def main(arguments: list[str] | None = None) -> None:
    asking = parser(__doc__, FILE, [0])
    asking.add_argument("--task", choices=tuple(WAYS), default="text")
    asked = asking.parse_args(arguments)
    emulate_devices(4)
    wanted = trials(asked.task, tuple(asked.seeds), asked.scale)
    fill(wanted, asked)
    print(pricing.page(wanted, asked.file, BASE))


if __name__ == "__main__":
    main()
