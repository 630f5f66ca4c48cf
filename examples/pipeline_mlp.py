"""Split an MLP of your own into a pipeline of four stages, and train it with spike counts between them."""

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import AxisType

import snap_jax as snap

snap.emulate_devices(4)


class Block(nnx.Module):
    """Add a layer to the stream."""

    def __init__(self, width, *, rngs):
        self.linear = nnx.Linear(width, width, rngs=rngs)

    def __call__(self, x):
        """Return `x + relu(W x + b)`."""
        return x + nnx.relu(self.linear(x))


class MLP(nnx.Module):
    """Nothing here knows of devices or spikes."""

    def __init__(self, inputs, width, classes, blocks, *, rngs):
        self.first = nnx.Linear(inputs, width, rngs=rngs)
        self.blocks = nnx.List([Block(width, rngs=rngs) for _ in range(blocks)])
        self.head = nnx.Linear(width, classes, rngs=rngs)

    def __call__(self, x):
        """Return the logits."""
        x = self.first(x)
        for block in self.blocks:
            x = block(x)
        return self.head(x)


def loss(model, batch):
    """Return the mean cross-entropy."""
    x, labels = batch
    return optax.softmax_cross_entropy_with_integer_labels(model(x), labels).mean()


x = jax.random.normal(jax.random.key(1), (128, 8))
batch = x, jnp.argmax(x[:, :3], -1)
microbatch = jax.tree.map(lambda rows: rows[:32], batch)  # of four
mlp = MLP(8, 32, 3, blocks=4, rngs=nnx.Rngs(0))
stages = snap.split_stages(
    mlp, loss, microbatch, stages=4, blocks="blocks.*", codec="count:7", grad_codec="int8:channel"
)
print(stages)

mesh = jax.make_mesh((4,), ("stage",), axis_types=(AxisType.Auto,))
step = jax.jit(stages.value_and_grad(mesh, microbatches=4))
params, state, optimizer = stages.params, stages.state, optax.adam(1e-2)
moments, values = optimizer.init(params), []
for _ in range(40):
    (value, _, state), gradient = step(params, state, batch)
    updates, moments = optimizer.update(gradient, moments, params)
    params = optax.apply_updates(params, updates)
    values.append(float(value))
print(f"loss {values[0]:.2f} -> {values[-1]:.2f}")
trained = stages.join(params, state)  # the model with its boundaries, on one device; snap.unplace takes them away
