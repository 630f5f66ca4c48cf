"""Run a model in a layout: with floats against the original, with spikes for twenty steps; bytes and price."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx

import snap_jax as snap
from examples.outside_models import layouts, models

STEPS, RATE = 20, 3e-3


class Reference(NamedTuple):
    """A model as its authors wrote it, on one device: its loss, its gradient, and its loss after twenty steps."""

    loss: Callable
    params: Any
    batch: Any
    first: float
    gradient: Any
    last: float


class Row(NamedTuple):
    """One model in one layout.

    Attributes:
      loss_difference: of the layout with floats and the original, relative.
      gradient_difference: the largest of all elements, relative to the largest element of the gradient.
      first, last: loss with spikes before the first and after the last step.
      original_last: the same of the original.
      float_bytes, bytes: that all devices send in a step.
      float_joules, joules: of these, on UCIe links.
    """

    loss_difference: float
    gradient_difference: float
    first: float
    last: float
    original_last: float
    float_bytes: int
    bytes: int
    float_joules: Any
    joules: Any


@functools.cache
def reference(name: str) -> Reference:
    """Train the original on one device."""
    example = models.build(name)
    loss, params = example.loss, example.model
    if isinstance(example.model, nnx.Module):
        loss, params = layouts.functional(example.model, example.loss)
    optimizer = optax.adam(RATE)

    @jax.jit
    def step(params: Any, state: Any) -> tuple:
        value, grads = jax.value_and_grad(loss)(params, example.batch)
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state, value, grads

    new, state, first, gradient = step(params, optimizer.init(params))
    for _ in range(STEPS):
        new, state, value, _ = step(new, state)
    return Reference(loss, params, example.batch, float(first), gradient, float(value))


def measure(name: str, layout: Callable[[Any, Any], layouts.Program], codec: Any) -> Row:
    """Run a model in a layout, which takes an optimizer and a codec."""
    original = reference(name)
    floats = layout(optax.sgd(1.0), None)
    params, state, value = floats.step(floats.params, floats.state, original.batch)
    new = floats.whole(params)
    new = nnx.state(new, nnx.Param) if isinstance(new, nnx.Module) else new
    gradient = jax.tree.map(lambda old, new: old - new, original.params, new)
    spikes = layout(optax.adam(RATE), codec)
    losses, params, state = [], spikes.params, spikes.state
    for _ in range(STEPS + 1):
        params, state, loss = spikes.step(params, state, original.batch)
        losses.append(float(loss))
    traffic = [snap.collective_traffic(p.step)(p.params, p.state, original.batch) for p in (floats, spikes)]
    return Row(
        abs(float(value) / original.first - 1),
        _difference(gradient, original.gradient),
        losses[0],
        losses[-1],
        original.last,
        *(t.sent_bytes for t in traffic),
        *(price(t).energy_j for t in traffic),
    )


def price(traffic: snap.Traffic) -> Any:
    """Return joules and seconds of a step on a ring of UCIe links."""
    axes = {name: size for t in traffic for name, size in [(t.axes[0], t.group_size)]}
    return snap.cost.price(
        traffic, snap.cost.System({a: snap.cost.Ring(n, snap.cost.links.UCIE_STANDARD) for a, n in axes.items()})
    )


def user_lines(*functions: Callable) -> int:
    """Count the lines inside functions that are neither blank nor documentation."""
    count = 0
    for function in functions:
        body = inspect.getsource(function).split('"""', 2)[-1].splitlines()
        count += sum(bool(line.strip()) and not line.strip().startswith("#") for line in body)
    return count


def _difference(ours: Any, theirs: Any) -> float:
    largest = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(theirs))
    pairs = zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True)
    return max(float(jnp.abs(a - b).max()) for a, b in pairs) / largest
