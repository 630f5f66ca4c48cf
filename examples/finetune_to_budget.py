"""Train a dense MLP, then fine-tune it so that its hidden activations cross in one bit per element."""

import jax
import jax.numpy as jnp
import optax
from flax import nnx

import snap_jax as snap


class MLP(nnx.Module):
    """Nothing here knows of spikes."""

    def __init__(self, *, rngs):
        self.up, self.down = nnx.Linear(16, 32, rngs=rngs), nnx.Linear(32, 4, rngs=rngs)

    def __call__(self, x):
        """Return the logits."""
        return self.down(nnx.relu(self.up(x)))


x = jax.random.normal(jax.random.key(1), (512, 16))
batch = x, jnp.argmax(x @ jax.random.normal(jax.random.key(2), (16, 4)), -1)


def loss(model, batch):
    """Return the mean cross-entropy."""
    x, labels = batch
    return optax.softmax_cross_entropy_with_integer_labels(model(x), labels).mean()


@nnx.jit
def train_step(model, optimizer):
    """Train as you always do."""
    optimizer.update(model, nnx.grad(loss)(model, batch))


dense = MLP(rngs=nnx.Rngs(0))
optimizer = nnx.Optimizer(dense, optax.adam(1e-2), wrt=nnx.Param)
for _ in range(100):
    train_step(dense, optimizer)
print(f"dense:      32.0 bits per element, loss {loss(dense, batch):.3f}")

model = snap.place(dense, [snap.Rule("up", "boundary", "count:15+rans")], sample=(x,))
snap.calibrate(model, (x,), bits=1.0)
print(f"calibrated: about 1 bit per element, loss {loss(model, batch):.3f}")

budget = snap.budget(1.0)
penalized = budget.loss(loss)
mask = snap.decay_mask(nnx.state(model, nnx.Param))  # thresholds do not decay
optimizer = nnx.Optimizer(model, optax.adamw(3e-3, mask=mask), wrt=nnx.Param)


@nnx.jit
def tune_step(model, optimizer, multipliers, progress):
    """Train with the rate in the loss, then move the thresholds towards the budget."""
    (_, seen), gradient = nnx.value_and_grad(penalized, has_aux=True)(model, batch, multipliers)
    optimizer.update(model, gradient)
    return budget.update(model, multipliers, seen, progress), seen[0].measured


multipliers = budget.init(model)
for i in range(100):
    multipliers, bits = tune_step(model, optimizer, multipliers, i / 100)
print(f"fine-tuned: {bits:4.1f} bits per element, loss {loss(model, batch):.3f}")
