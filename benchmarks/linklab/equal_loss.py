"""Train a small model on several hosts with gradients averaged in several ways: seconds per step, bytes, final loss.

    benchmarks/linklab/lab --hosts 4 --rate 1gbit -- python -m benchmarks.linklab.equal_loss
    benchmarks/linklab/lab --hosts 4 --rate 1gbit -- /tmp/torch/bin/python -m benchmarks.linklab.torch_equal_loss

Both programs start from the same weights, read the same batches and take the same steps of Adam.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

import snap_jax as snap
from benchmarks.linklab import byte_model, hosts, options
from snap_jax.parallel import processes

METHODS = ("fp32", "ternary", "count:1+rans", "topk:0.0156:2", "int4:block32")


def main() -> None:
    asked = _asked()
    mesh = hosts.join()
    train, heldout = byte_model.divided(byte_model.text())
    for rate in asked.rates:
        hosts.set_rate(rate)
        for method in asked.methods:
            for seed in range(asked.seeds):
                found = _run(mesh, method, asked, seed, train)
                loss = byte_model.bits_per_byte(found.pop("weights"), heldout)
                shared = {"program": "equal_loss", "spec": method, "rate": rate, "hosts": mesh.size, "seed": seed}
                one = hosts.row(found.pop("seconds"), **shared, heldout_bits=loss, **found, steps=asked.steps)
                hosts.write(asked.out, [one])
                if processes.is_first():
                    print(line(one), flush=True)


def line(one: dict[str, Any]) -> str:
    """Return a result in words."""
    return (
        f"{one['rate']:9} {one['spec']:15} seed {one['seed']}: {1e3 * one['seconds']:8.2f} ms per step, "
        f"{one['bytes_per_step']:12,.0f} bytes per step from all hosts, {one['heldout_bits']:.4f} bits per byte"
    )


def _run(mesh: Mesh, method: str, asked: argparse.Namespace, seed: int, train: np.ndarray) -> dict[str, Any]:
    """Train once; the first tenth of the steps is not timed."""
    host, sharding = jax.process_index(), NamedSharding(mesh, P(hosts.AXIS))
    rule, step = optax.adam(byte_model.RATE), None
    params = jax.tree.map(jnp.asarray, byte_model.weights(asked.hidden, seed))
    state, residual = rule.init(params), _start(mesh, params)
    seconds, moved = [], 0.0
    for number in range(asked.steps):
        rows = byte_model.batch(train, step=number, host=host, seed=seed)
        batch = jax.make_array_from_process_local_data(sharding, rows[None])
        if step is None:
            program = jax.jit(_step(mesh, method, rule))
            params, state = _everywhere(mesh, (params, state))
            moved = snap.collective_traffic(program)(params, state, residual, batch).sent_bytes
            step = program.lower(params, state, residual, batch).compile()
        began = time.monotonic()
        params, state, residual = jax.block_until_ready(step(params, state, residual, batch))
        seconds.append(time.monotonic() - began)
    return {"seconds": seconds[asked.steps // 10 :], "bytes_per_step": moved, "weights": processes.on_host(params)}


def _everywhere(mesh: Mesh, tree: Any) -> Any:
    return processes.placed(jax.tree.map(np.asarray, tree), mesh, P())


def _start(mesh: Mesh, params: Any) -> Any:
    """A residual for each host."""
    sharding = NamedSharding(mesh, P(hosts.AXIS))
    return jax.tree.map(
        lambda p: jax.make_array_from_process_local_data(sharding, np.zeros((1, *p.shape), np.float32)), params
    )


def _step(mesh: Mesh, method: str, rule: optax.GradientTransformation) -> Callable:
    feedback = None if method == "fp32" else snap.error_feedback(method, hosts.AXIS)

    def step(params: Any, state: Any, residual: Any, batch: jax.Array) -> tuple[Any, Any, Any]:
        own = jax.tree.map(lambda p: lax.pcast(p, hosts.AXIS, to="varying"), params)
        gradient = jax.grad(_loss)(own, batch[0])
        if feedback is None:
            mean = lax.pmean(gradient, hosts.AXIS)
        else:
            kind = type(feedback.init(gradient))
            mean, kept = feedback.update(gradient, kind(residual))
            residual = kept.residual
        updates, state = rule.update(mean, state, params)
        return optax.apply_updates(params, updates), state, residual

    rows = P(hosts.AXIS)
    return jax.shard_map(step, mesh=mesh, in_specs=(P(), P(), rows, rows), out_specs=(P(), P(), rows))


def _loss(model: Any, rows: jax.Array) -> jax.Array:
    read = model["embed"][rows[:, :-1]].reshape(len(rows), -1)
    logits = jnp.tanh(read @ model["hidden"]) @ model["head"]
    return optax.softmax_cross_entropy_with_integer_labels(logits, rows[:, -1]).mean()


def _asked() -> argparse.Namespace:
    parser = options.parser(__doc__, rates=("1gbit",))
    parser.add_argument("--methods", nargs="+", default=METHODS, help="codecs, with error feedback; fp32 without")
    parser.add_argument("--hidden", type=int, default=4096, help="size of the hidden layer")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seeds", type=int, default=3)
    return parser.parse_args()


if __name__ == "__main__":
    hosts.run(main)
