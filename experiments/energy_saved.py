"""Draw by what factor one bit per element lowers the energy of the whole, over the energy of arithmetic.

    python -m experiments.energy_saved              # docs/energy-saved.svg
    python -m experiments.energy_saved --width 64

Blocks of four chips in a row; 16 bits per element against one. Nothing is trained.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from snap_jax.cost import Chain, Workload, plots
from snap_jax.cost.sensitivity import CLAIM, REACHES, energy_balance

PRESETS = {"int8, 7 nm": 0.1, "bfloat16, 7 nm": 0.59, "bfloat16, H100": 1.415, "float32, 45 nm": 4.6}


def main(arguments: Sequence[str] | None = None) -> None:
    asking = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asking.add_argument("--width", type=int, default=1024, help="Width of the model. The default is 1024.")
    asking.add_argument("--out", type=Path, default=Path("docs/energy-saved.svg"), help="File of the plot.")
    asked = asking.parse_args(arguments)
    work = Workload(width=asked.width, depth=4, chips=4, layout="pipeline")
    curves = {
        reach: energy_balance(work, lambda n, link=link: Chain(n, link), coded_bits=1.0)
        for reach, link in REACHES.items()
    }
    plots.sensitivity(curves, list(CLAIM.values()), PRESETS, asked.out)


if __name__ == "__main__":
    main()
