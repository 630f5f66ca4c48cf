"""Print the processor time of a mean of gradients against that of one pass over memory, four devices in one process.

    snap-jax launch -n 1 -- python -m benchmarks.linklab.gradient_passes

A pass reads two arrays and writes one, so it moves three. What a mean takes besides its links is mostly such passes.
"""

import argparse
import time

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import PartitionSpec as P

import snap_jax as snap
from benchmarks.timing import take_turns
from snap_jax.parallel.error_feedback import ErrorFeedbackState
from snap_jax.parallel.mesh import auto_mesh

AXIS, DEVICES = "host", 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parameters", type=int, default=5_000_000)
    parser.add_argument("--specs", nargs="+", default=("ternary", "int8"))
    parser.add_argument("--rounds", type=int, default=10)
    asked = parser.parse_args()
    snap.emulate_devices(DEVICES)
    runs = {name: _ready(name, asked.parameters) for name in ("one pass", "fp32", *asked.specs)}
    times = take_turns(runs, asked.rounds, clock=time.process_time)
    for name, found in times.items():
        print(f"{name:10} {1e3 * found.median:7.1f} ms of processor time, {found.over(times['one pass'], 1)} passes")


def _ready(name: str, size: int):
    """A call that takes a gradient and a residual, and keeps the new residual, as a training step does."""

    def step(gradient: jax.Array, residual: jax.Array) -> tuple[jax.Array, jax.Array]:
        if name == "one pass":
            return jnp.zeros((1, 1)), gradient + residual
        if name == "fp32":
            mean, kept = lax.pmean(gradient[0], AXIS), residual
        else:
            mean, state = snap.error_feedback(name, AXIS).update(gradient[0], ErrorFeedbackState(residual))
            kept = state.residual
        return lax.pcast(mean, AXIS, to="varying")[None], kept

    mesh, rows = auto_mesh({AXIS: DEVICES}), P(AXIS)
    outs = (P() if name == "one pass" else rows, rows)
    mapped = jax.shard_map(step, mesh=mesh, in_specs=(rows, rows), out_specs=outs)
    place = jax.sharding.NamedSharding(mesh, rows)
    gradient = jax.device_put(np.random.default_rng(0).standard_normal((DEVICES, size), np.float32), place)
    kept = [jax.device_put(np.zeros((DEVICES, size), np.float32), place)]
    ready = jax.jit(mapped, donate_argnums=1).lower(gradient, kept[0]).compile()

    def run() -> jax.Array:
        mean, kept[0] = jax.block_until_ready(ready(gradient, kept[0]))
        return mean

    return run


if __name__ == "__main__":
    main()
