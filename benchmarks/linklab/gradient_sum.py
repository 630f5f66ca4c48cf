"""Time the mean of 25 million gradients over slow links: floats, and spikes with error feedback.

`benchmarks/linklab/lab --hosts 4 --rate 1gbit -- python -m benchmarks.linklab.gradient_sum`
"""

import argparse
import json
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

import snap_jax as snap
from benchmarks.linklab import hosts, options
from snap_jax.parallel import processes

PARAMETERS = 25_000_000
SPECS = ("fp32", "bf16", "int8", "ternary", "count:1", "count:3")


def main() -> None:
    asked = _asked()
    mesh = hosts.join()
    gradient = np.random.default_rng(processes.count()).standard_normal(asked.parameters).astype(np.float32)
    runs, facts = {}, {}
    for spec in asked.specs:
        runs[spec], traffic = step(mesh, spec, gradient)
        facts[spec] = {
            "claimed_bytes": traffic.sent_bytes,
            "interface_bytes": hosts.crossed(runs[spec], times=1),
            "messages": sum(t.times for t in traffic),
            "traffic": json.loads(traffic.to_json()),
        }
    for rate in asked.rates:
        hosts.set_rate(rate)
        times = hosts.timed(runs, asked.rounds)
        shared = {"program": "gradient_sum", "parameters": asked.parameters, "hosts": mesh.size, "rate": rate}
        rows = [hosts.row(times[spec], **shared, spec=spec, **facts[spec]) for spec in runs]
        hosts.write(asked.out, rows)
        if processes.is_first():
            for one in rows:
                against = rows[0]["seconds"] / one["seconds"]
                print(f"{rate:9} {one['spec']:15} {1e3 * one['seconds']:9.2f} ms, {against:.2f}x", flush=True)


def step(mesh: jax.sharding.Mesh, spec: str, gradient: np.ndarray) -> tuple[Callable, snap.Traffic]:
    """Return a call that averages each host's gradient, and its traffic.

    bf16 and int8 are sent without error feedback, as PyTorch's hooks send them: each device has the scale of its own
    data, and so has the mean.
    """
    sharding, feedback = NamedSharding(mesh, P(hosts.AXIS)), None
    if spec not in ("fp32", "bf16", "int8"):
        feedback = snap.error_feedback(spec, hosts.AXIS)

    def mean(gradient: jax.Array, residual: jax.Array) -> tuple[jax.Array, jax.Array]:
        if feedback is None:
            mean = snap.pmean(gradient[0], hosts.AXIS, **codecs(spec))
            return lax.pcast(mean, hosts.AXIS, to="varying")[None], residual
        mean, state = feedback.update(gradient[0], type(feedback.init(gradient[0]))(residual))
        return lax.pcast(mean, hosts.AXIS, to="varying")[None], state.residual

    placed = jax.make_array_from_process_local_data(sharding, gradient[None])
    program = jax.jit(jax.shard_map(mean, mesh=mesh, in_specs=P(hosts.AXIS), out_specs=P(hosts.AXIS)), donate_argnums=1)
    zeros = jax.jit(lambda g: jnp.zeros_like(g), out_shardings=sharding)
    residual = [zeros(placed)]
    traffic = snap.collective_traffic(program)(placed, residual[0])
    ready = program.lower(placed, residual[0]).compile()

    def run() -> jax.Array:
        average, residual[0] = ready(placed, residual[0])
        return average, residual[0]

    return run, traffic


def codecs(spec: str) -> dict[str, str]:
    """Return the arguments of `pmean`: what is sent first, and what carries the sums."""
    return {} if spec == "fp32" else {"codec": f"{spec}:absmax" if spec == "int8" else spec, "sum_codec": spec}


def _asked() -> argparse.Namespace:
    parser = options.parser(__doc__, rates=("unlimited", "1gbit"))
    parser.add_argument("--parameters", type=int, default=PARAMETERS, help="of the model")
    parser.add_argument("--specs", nargs="+", default=SPECS, help="codecs to compare")
    return parser.parse_args()


if __name__ == "__main__":
    hosts.run(main)
