"""What a user writes to train a model of others over several devices: one function per layout.

Each takes an optax optimizer and a codec, and returns a `Program`. `codec=None` sends floats.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import optax
from flax import nnx
from jax import lax
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

import snap_jax as snap


class Program(NamedTuple):
    """A training step over devices and what it starts from.

    Attributes:
      step: params, state and batch -> params, state and loss; compiled.
      params: what the optimizer changes.
      state: of the optimizer, the residuals and the model.
      whole: params -> the original model, or its parameters.
    """

    step: Callable[..., tuple]
    params: Any
    state: Any
    whole: Callable[[Any], Any]


def mesh_of(axis: str, devices: int) -> jax.sharding.Mesh:
    """Return a mesh of the first devices."""
    return jax.make_mesh((devices,), (axis,), axis_types=(AxisType.Auto,), devices=jax.devices()[:devices])


def functional(model: nnx.Module, loss: Callable) -> tuple[Callable, Any]:
    """Return the loss of an NNX model as a function of its parameters and a batch, and these parameters."""
    graph, params, rest = nnx.split(model, nnx.Param, ...)
    return lambda params, batch: loss(nnx.merge(graph, params, rest), batch), params


def data_parallel(loss: Callable, params: Any, optimizer: Any, codec: Any, replicas: int = 2) -> Program:
    """Give each replica rows of its own; gradients are averaged as spikes. `loss` takes parameters and a batch."""
    mesh = mesh_of("replica", replicas)
    mean = snap.error_feedback(codec, "replica") if codec else optax.stateless(lambda g, _: lax.pmean(g, "replica"))
    transform = optax.chain(mean, optimizer)

    def step(params: Any, state: Any, batch: Any) -> tuple:
        value, grads = jax.value_and_grad(loss)(lax.pcast(params, "replica", to="varying"), batch)
        updates, state = transform.update(grads, state, params)
        return optax.apply_updates(params, updates), state, lax.pmean(value, "replica")

    states = (P("replica"), P())  # the residuals of each replica, and the state of the optimizer
    state = jax.jit(jax.shard_map(transform.init, mesh=mesh, in_specs=P(), out_specs=states))(params)
    step = jax.shard_map(step, mesh=mesh, in_specs=(P(), states, P("replica")), out_specs=(P(), states, P()))
    return Program(jax.jit(step), params, state, lambda params: params)


def train(value_and_grad: Callable, params: Any, whole: Callable, optimizer: Any) -> Program:
    """Return the training step that one has anyway: this one knows of no devices."""

    @jax.jit
    def step(params: Any, state: Any, batch: Any) -> tuple:
        value, grads = value_and_grad(params, batch)
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state, value

    return Program(step, params, optimizer.init(params), whole)
