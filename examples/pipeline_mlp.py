"""Train an MLP of your own in a pipeline of four stages; activations between them are spike counts."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import PartitionSpec as P

import snap_jax as snap
from snap_jax.models.base import Network
from snap_jax.models.split import split
from snap_jax.parallel.gpipe import GPipe
from snap_jax.parallel.mesh import auto_mesh

snap.emulate_devices(4)


class Block(nnx.Module):
    """Add a layer to the stream."""

    def __init__(self, width, *, rngs):
        self.linear = nnx.Linear(width, width, rngs=rngs)

    def __call__(self, x):
        """Return `x + relu(W x + b)`."""
        return x + nnx.relu(self.linear(x))


class MLP(Network):
    """An entrance, blocks that add to a stream, and an exit."""

    def __init__(self, inputs, width, classes, blocks, *, rngs):
        self.first = nnx.Linear(inputs, width, rngs=rngs)
        self.blocks = nnx.List([Block(width, rngs=rngs) for _ in range(blocks)])
        self.norm_out, self.head = nnx.LayerNorm(width, rngs=rngs), nnx.Linear(width, classes, rngs=rngs)

    def enter(self, inputs):
        """Return the stream in front of the first block."""
        return self.first(inputs)

    def width(self, place):
        """Return the features of the stream."""
        return self.first.out_features

    def leave(self, x):
        """Return the logits."""
        return self.head(self.norm_out(x))


class Batch(NamedTuple):
    """A microbatch."""

    inputs: jax.Array
    labels: jax.Array


def leave(logits, batch):
    """Return the loss of a microbatch, and nothing else to report."""
    return optax.softmax_cross_entropy_with_integer_labels(logits, batch.labels).mean(), ()


boundaries = [snap.Boundary("count:7", features=32, grad_codec="int8:channel") for _ in range(4)]
stages, params = split(MLP(8, 32, 3, blocks=4, rngs=nnx.Rngs(0)), boundaries)
schedule = GPipe(microbatches=8, stages=4)


def local(params, batch):
    """Return the mean loss of the microbatches, inside shard_map."""
    return schedule.run(stages.work(leave), params, batch)[0] / schedule.microbatches


loss = jax.shard_map(local, mesh=auto_mesh({"stage": 4}), in_specs=(stages.specs(params), P()), out_specs=P())
optimizer = optax.adam(1e-2)


@jax.jit
def train(params, batch):
    """Take 40 steps."""

    def step(carry, _):
        params, state = carry
        value, gradient = jax.value_and_grad(loss)(params, batch)
        updates, state = optimizer.update(gradient, state, params)
        return (optax.apply_updates(params, updates), state), value

    (params, _), values = jax.lax.scan(step, (params, optimizer.init(params)), length=40)
    return params, values


inputs = jax.random.normal(jax.random.key(1), (8, 16, 8))  # 8 microbatches of 16 rows
batch = Batch(inputs, jnp.argmax(inputs[..., :3], -1))
params, values = train(params, batch)
print(f"loss {values[0]:.2f} -> {values[-1]:.2f}")
for t in snap.collective_traffic(jax.grad(loss), schedule=schedule)(params, batch):
    if t.op == "ppermute" and t.bytes > 32 * 4:  # smaller ones send thresholds
        print(t.direction, t.dtype, t.bytes, "bytes instead of", 4 * 16 * 32, "as floats,", t.times, "times")
