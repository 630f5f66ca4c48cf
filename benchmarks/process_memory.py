"""Print the most memory that each process has held once the first parameters are on its devices.

`snap-jax launch -n 4 --devices-per-process 1 -- python -m benchmarks.process_memory --layout pipeline`
"""

import argparse
import resource

import jax

import snap_jax as snap
from snap_jax import training
from snap_jax.parallel import processes
from snap_jax.training.config import LanguageConfig


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layout", default="pipeline", help="of the devices, one per process")
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--layers", type=int, default=16)
    asked = parser.parse_args()
    snap.join_processes()
    size = {"layers": asked.layers, "width": asked.width, "heads": 16, "seq_len": 32, "batch": 8, "microbatches": 4}
    params = training.prepare(LanguageConfig(devices=processes.count(), layout=asked.layout, **size)).params
    leaves = jax.tree.leaves(params)
    whole = sum(leaf.nbytes for leaf in leaves)
    here = sum(shard.data.nbytes for leaf in leaves for shard in leaf.addressable_shards)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts in KiB
    print(f"{asked.layout}: peak {peak / 1e6:.0f} MB, parameters here {here / 1e6:.0f} MB of {whole / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
