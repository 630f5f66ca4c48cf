"""How close to entropy does a ladder send? Payload bits over the empirical entropy of i.i.d. ternary spikes.

Prediction: an address takes at most `2 + log2(1 / density)` bits and a sign one; a rung is up to 1.2x what is needed.
Elias-Fano alone is 1.05x (1 %) to 1.14x (20 %) of the entropy, so 1.37x is the worst that can be and 1.2x the usual.

Run: `python -m benchmarks.wires`
"""

import statistics

import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.timing import machine
from snap_jax import Ladder

SYMBOLS = range(-1, 2)
DENSITIES = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
SIZES = (2**14, 2**17, 2**20)
HEADER_BYTES = 1
WORST, MEAN = 1.35, 1.25  # what we hold ourselves to


def overhead(size: int, density: float, seed: int = 0) -> tuple[float, str]:
    """Payload bits (header included) over entropy bits, and the rung taken."""
    rng = np.random.default_rng(seed)
    spikes = np.where(rng.random(size) < density, rng.choice([-1, 1], size), 0).astype(np.int8)
    share = np.unique(spikes, return_counts=True)[1] / size
    entropy_bits = -size * float(np.sum(share * np.log2(share)))
    ladder = Ladder()
    rung = int(ladder.rung(jnp.asarray(spikes), SYMBOLS))
    payload_bits = 8 * (ladder.sizes(size, SYMBOLS)[rung] + HEADER_BYTES)
    return payload_bits / entropy_bits, type(ladder.steps(size, SYMBOLS)[rung]).__name__


def main():
    table = Table(title=f"Ladder: payload bits / entropy bits, ternary spikes ({machine()})")
    table.add_column("density")
    for size in SIZES:
        table.add_column(f"2^{size.bit_length() - 1} elements", justify="right")
    ratios = []
    for density in DENSITIES:
        row = [overhead(size, density) for size in SIZES]
        ratios += [ratio for ratio, _ in row]
        table.add_row(f"{density:.1%}", *(f"{ratio:.3f} {name}" for ratio, name in row))
    console = Console(width=100)
    console.print(table)
    worst, mean = max(ratios), statistics.mean(ratios)
    console.print(f"worst {worst:.3f} (at most {WORST}), mean {mean:.3f} (at most {MEAN})")


if __name__ == "__main__":
    main()
