"""Train a small network on four devices, with gradients as floats and as ternary spikes with error feedback."""

import jax
import jax.numpy as jnp
import optax
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

import snap_jax as snap

STEPS = 100
snap.emulate_devices(4)
mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
x = jax.random.normal(jax.random.key(0), (256, 16))
y = jnp.sin(x @ jax.random.normal(jax.random.key(1), (16, 2)))
start = {"up": jax.random.normal(jax.random.key(2), (16, 64)) / 4, "down": jnp.zeros((64, 2))}


def loss(params, x, y):
    """Return the mean squared error."""
    return jnp.mean((jax.nn.relu(x @ params["up"]) @ params["down"] - y) ** 2)


def trainer(average):
    """Return a program that trains on the rows of each device; `average` is an optax transformation."""
    optimizer = optax.chain(average, optax.adam(1e-2))

    def step(carry, _, x, y):
        params, state = carry
        local = jax.lax.pcast(params, "data", to="varying")  # otherwise JAX sums the gradients itself
        value, grads = jax.value_and_grad(loss)(local, x, y)
        updates, state = optimizer.update(grads, state, params)
        return (optax.apply_updates(params, updates), state), jax.lax.pmean(value, "data")

    def train(params, x, y):
        carry = params, optimizer.init(params)
        return jax.lax.scan(lambda carry, i: step(carry, i, x, y), carry, length=STEPS)[1]

    return jax.jit(jax.shard_map(train, mesh=mesh, in_specs=(P(), P("data"), P("data")), out_specs=P()))


for name, average in {
    "floats": optax.stateless(lambda grads, _: jax.lax.pmean(grads, "data")),
    "ternary": snap.error_feedback("ternary", axis_name="data"),
}.items():
    program = trainer(average)
    losses = program(start, x, y)
    nbytes = snap.collective_traffic(program)(start, x, y).sent_bytes / STEPS
    print(f"{name:8} loss {losses[0]:.3f} -> {losses[-1]:.3f}, {nbytes:,.0f} bytes per step")
