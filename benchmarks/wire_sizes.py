"""Measure how close payloads are to the entropy of independent spikes.

Expectations: an address takes at most `2 + log2(1 / density)` bits and a sign one bit. Elias-Fano alone takes
1.05x (at 1 %) to 1.14x (at 20 %) of the entropy. Rounding up to one of the sizes adds 5 % on average, and 4 % to dense
payloads of `Rans`; see `snap_jax.wires.size_grid`.

Run: `python -m benchmarks.wire_sizes`
"""

import statistics

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.results import show
from benchmarks.timing import machine
from snap_jax import Ladder, Rans

DENSITIES = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
WIDTHS = (0.25, 0.5, 1.0, 2.0)
SIZES = (2**14, 2**17, 2**20)
HEADER_BYTES = 1
WORST, MEAN = 1.35, 1.25  # targets


def ternary(size: int, density: float, seed: int = 0) -> np.ndarray:
    """Return spikes of either sign."""
    rng = np.random.default_rng(seed)
    return np.where(rng.random(size) < density, rng.choice([-1, 1], size), 0).astype(np.int8)


def counts(size: int, width: float, seed: int = 0) -> np.ndarray:
    """Return rounded normal numbers, at most 3."""
    rng = np.random.default_rng(seed)
    return np.clip(np.round(width * rng.standard_normal(size)), -3, 3).astype(np.int8)


def overhead(wire: Ladder | Rans, spikes: np.ndarray, symbols: range) -> float:
    """Return payload bits, header included, divided by entropy bits."""
    share = np.unique(spikes, return_counts=True)[1] / spikes.size
    entropy_bits = -spikes.size * float(np.sum(share * np.log2(share)))
    rung = int(jax.jit(wire.rung, static_argnums=1)(jnp.asarray(spikes), symbols))
    return 8 * (wire.sizes(spikes.size, symbols)[rung] + HEADER_BYTES) / entropy_bits


def main():
    console = Console(width=100)
    ladder = _table(console, "Ladder, ternary spikes", Ladder(), ternary, DENSITIES, "{:.1%} fire", range(-1, 2))
    worst, mean = max(ladder), statistics.mean(ladder)
    console.print(f"worst {worst:.3f} (at most {WORST}), mean {mean:.3f} (at most {MEAN})\n")
    _table(console, "Rans, ternary spikes", Rans(), ternary, DENSITIES, "{:.1%} fire", range(-1, 2))
    for wire in (Rans(), Ladder()):
        title = f"{type(wire).__name__}, normal numbers rounded to counts up to 3"
        _table(console, title, wire, counts, WIDTHS, "standard deviation {}", range(-3, 4))


def _table(console: Console, title: str, wire: Ladder | Rans, draw, rows, name: str, symbols: range) -> list[float]:
    table = Table(title=f"{title}, payload bits / entropy bits ({machine()})")
    table.add_column("")
    for size in SIZES:
        table.add_column(f"2^{size.bit_length() - 1} elements", justify="right")
    ratios = [[overhead(wire, draw(size, row), symbols) for size in SIZES] for row in rows]
    for row, each in zip(rows, ratios, strict=True):
        table.add_row(name.format(row), *(f"{ratio:.3f}" for ratio in each))
    show(console, table)
    return [ratio for each in ratios for ratio in each]


if __name__ == "__main__":
    main()
