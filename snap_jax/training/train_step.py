"""TrainState: all of a run that changes, in one pytree, and the step that changes it.

The step is a pure function of the state and its batches, so a state that is saved and restored continues as if nothing
had happened. A step whose loss or gradient is not finite changes nothing but `finite`, and nor do the steps after it.
"""

import dataclasses
import hashlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, PyTree

from snap_jax._compat import pytree
from snap_jax.boundary.telemetry import Telemetry
from snap_jax.parallel.mesh import DATA
from snap_jax.parallel.processes import count, on_host, require_same
from snap_jax.training.config import Settings
from snap_jax.training.job import Job
from snap_jax.training.optimizer import clipped


@pytree
@dataclasses.dataclass(frozen=True)
class TrainState:
    """The state of a run.

    Attributes:
      step: steps done, int32; with local steps a row per replica, as `finite`.
      params: of the model.
      optimizer: state of the optax optimizer.
      ema: moving average of the parameters, `ema' = decay ema + (1 - decay) params` from 0; None if it is not used.
      best: lowest held-out loss so far, bits; infinite before the first.
      stale: evaluations since the best, int32.
      finite: whether every loss and gradient so far was finite; if not, the rest is the state before the failed step.
      extra: small state of the job, by name.
      replicas: what each data replica holds for itself between exchanges; None where all share `params`.
    """

    step: Any  # Int[Array, ""]
    params: PyTree
    optimizer: PyTree
    ema: PyTree | None
    best: Any  # Float[Array, ""]
    stale: Any  # Int[Array, ""]
    finite: Any  # Bool[Array, ""]
    extra: Any  # dict[str, PyTree]
    replicas: Any = None  # Replicas | None

    @property
    def learned(self) -> PyTree:
        """The parameters that steps change."""
        return self.params if self.replicas is None else self.replicas.params


@pytree
@dataclasses.dataclass(frozen=True)
class Measured:
    """What one step measured.

    Attributes:
      loss: mean over the batches, nats.
      gradient_norm: of their mean gradient, before it is clipped; root mean square over data replicas that send spikes.
      seen: what left each stage, `[stage]`, in all batches together.

    With local steps all three have a row per replica.
    """

    loss: Any  # Float[Array, ""]
    gradient_norm: Any  # Float[Array, ""]
    seen: Telemetry

    def on_host(self) -> "Measured":
        """Return the same as numpy arrays, of all replicas together."""
        found = on_host(self)
        if not found.loss.ndim:
            return found
        norm = np.sqrt(np.mean(np.square(found.gradient_norm)))
        return Measured(found.loss.mean(), norm, jax.tree.map(lambda a: a.sum(0, dtype=a.dtype), found.seen))


Step = Callable[[TrainState, PyTree], tuple[TrainState, Measured]]


def start(job: Job, config: Settings, optimizer: optax.GradientTransformation) -> TrainState:
    """Return the state before the first step, placed as the parameters are; it holds the parameters, not a copy."""
    everywhere = NamedSharding(job.mesh, PartitionSpec())
    # A weak type is not saved: without one from the start, the program is the same after a restore.
    params = jax.tree.map(lambda p: lax.convert_element_type(p, p.dtype) if p.weak_type else p, job.params)
    places = jax.tree.map(lambda p: p.sharding, params)
    scalars = {"step": jnp.int32(0), "best": jnp.float32(jnp.inf), "stale": jnp.int32(0), "finite": jnp.array(True)}
    zeros = jax.jit(lambda p: jax.tree.map(jnp.zeros_like, p), out_shardings=places)
    rounds = job.rounds()
    replicas = rounds and rounds.init(params)
    if rounds is not None:
        by_replica = NamedSharding(job.mesh, PartitionSpec(DATA))
        scalars = {"best": scalars["best"], "stale": scalars["stale"]}
        scalars["step"] = jax.device_put(np.zeros(rounds.count, np.int32), by_replica)
        scalars["finite"] = jax.device_put(np.ones(rounds.count, bool), by_replica)
    return TrainState(
        params=params,
        optimizer=_placed(optimizer.init(replicas.params if replicas else params), job.mesh),
        replicas=replicas and _placed(replicas, job.mesh),
        ema=zeros(params) if config.ema else None,
        extra=jax.device_put(job.extra(), everywhere),
        **_placed({name: jnp.asarray(value) for name, value in scalars.items()}, job.mesh),
    )


def _placed(tree: PyTree, mesh: Mesh) -> PyTree:
    """Replicate what is not on the mesh yet; the rest stays as it is placed."""

    def one(leaf: Array) -> Array:
        there = isinstance(leaf.sharding, NamedSharding) and leaf.sharding.mesh == mesh
        return leaf if there else jax.device_put(leaf, NamedSharding(mesh, PartitionSpec()))

    return jax.tree.map(one, tree)


def averaged(state: TrainState, decay: float | None) -> PyTree:
    """Return the parameters to evaluate: their moving average, `ema / (1 - decay^step)`, or else the last ones."""
    done = steps_done(state)
    if state.ema is None or decay is None or not done:
        return state.params
    return optax.tree.bias_correction(state.ema, decay, jnp.int32(done))


def steps_done(state: TrainState) -> int:
    """Return the steps done; with local steps, by the replica that stopped first at a number that is not finite."""
    return int(np.min(on_host(state.step)))


def batches_of(job: Job, config: Settings, step: int) -> PyTree:
    """Return what one step reads: batches `step K` to `step K + K - 1`, stacked if there are several."""
    several = [job.with_teacher(job.batch(index)) for index in batch_indices(config, step)]
    return several[0] if len(several) == 1 else jax.tree.map(lambda *arrays: jnp.stack(arrays), *several)


def batch_indices(config: Settings, step: int) -> range:
    """Return the indices of those batches.

    >>> from snap_jax.training.config import LanguageConfig
    >>> batch_indices(LanguageConfig(accumulate=3), 2)
    range(6, 9)
    """
    return range(step * config.accumulate, (step + 1) * config.accumulate)


def compile_step(
    job: Job, config: Settings, optimizer: optax.GradientTransformation, state: TrainState
) -> jax.stages.Compiled:
    """Return one compiled `Step`; it donates the state it is given."""
    return compile_traced(trace_step(job, config, optimizer, state))


def trace_step(
    job: Job, config: Settings, optimizer: optax.GradientTransformation, state: TrainState
) -> jax.stages.Traced:
    """Return one traced `Step`, for `compile_traced`."""

    def step(state: TrainState, batches: PyTree) -> tuple[TrainState, Measured]:
        (losses, seen), gradient = _losses_and_gradient(job, state, batches, config.accumulate)
        loss, norm = job.loss_and_norm(losses, gradient)
        alone = state.replicas is not None  # then each replica has a norm of its own
        gradient = (jax.vmap(clipped) if alone else clipped)(gradient, norm)
        new = _updated(state, gradient, optimizer, config.ema)
        progress = state.step / config.steps
        params, extra = job.threshold_step(new.params, seen, progress), job.update_extra(state.extra, seen, progress)
        new = dataclasses.replace(new, params=params, extra=extra)
        finite = state.finite & jnp.isfinite(loss) & jnp.isfinite(norm)
        new = _where(finite, new, state)
        return dataclasses.replace(new, finite=finite), Measured(loss, norm, seen)

    places = jax.tree.map(lambda a: a.sharding, state)
    jitted = jax.jit(step, donate_argnums=0, in_shardings=(places, None), out_shardings=(places, None))
    return jitted.trace(state, batches_of(job, config, 0))


def compile_traced(traced: jax.stages.Traced) -> jax.stages.Compiled:
    """Compile a traced step; several processes must have traced the same."""
    lowered = traced.lower()
    if count() > 1:
        require_same(
            "program", hashlib.sha256(lowered.as_text().encode()).hexdigest(), "use the same code on all hosts"
        )
    return lowered.compile()


def compile_exchange(job: Job, state: TrainState) -> jax.stages.Compiled | None:
    """Return the compiled end of a round of local steps; it donates the state. None where replicas share parameters."""
    rounds = job.rounds()
    if rounds is None:
        return None

    def exchange(state: TrainState) -> TrainState:
        assert state.replicas is not None
        shared, replicas = rounds.exchange(state.params, state.replicas)
        return dataclasses.replace(state, params=shared, replicas=replicas)

    places = jax.tree.map(lambda a: a.sharding, state)
    return jax.jit(exchange, donate_argnums=0, in_shardings=(places,), out_shardings=places).lower(state).compile()


def _where(finite: Array, new: TrainState, old: TrainState) -> TrainState:
    """The new state, or the old one where a number was not finite: of that replica, where each has its own."""
    if new.replicas is None or old.replicas is None:
        return jax.tree.map(lambda n, o: jnp.where(finite, n, o), new, old)

    def of_replica(n: Array, o: Array) -> Array:
        return jnp.where(finite.reshape(-1, *[1] * (n.ndim - 1)), n, o) if n.ndim else n

    step, optimizer, params = jax.tree.map(
        of_replica,
        (new.step, new.optimizer, new.replicas.params),
        (old.step, old.optimizer, old.replicas.params),
    )
    return dataclasses.replace(new, step=step, optimizer=optimizer, replicas=new.replicas._replace(params=params))


def _updated(
    state: TrainState, gradient: PyTree, optimizer: optax.GradientTransformation, decay: float | None
) -> TrainState:
    updates, kept = optimizer.update(gradient, state.optimizer, state.learned)
    params, replicas = optax.apply_updates(state.learned, updates), None
    if state.replicas is not None:
        params, replicas = state.params, state.replicas._replace(params=params)
    ema = None if state.ema is None or decay is None else optax.incremental_update(params, state.ema, 1 - decay)
    return dataclasses.replace(state, step=state.step + 1, params=params, optimizer=kept, ema=ema, replicas=replicas)


def _losses_and_gradient(
    job: Job, state: TrainState, batches: PyTree, count: int
) -> tuple[tuple[Array, Telemetry], PyTree]:
    """Losses and gradient of the mean loss of `count` batches, one after the other; what was seen is summed."""
    params, extra = state.learned, state.extra
    if count == 1:
        return job.losses_and_gradient(params, batches, extra)

    def add(total: PyTree, batch: PyTree) -> tuple[PyTree, None]:
        return jax.tree.map(jnp.add, total, job.losses_and_gradient(params, batch, extra)), None

    shapes = jax.eval_shape(job.losses_and_gradient, params, jax.tree.map(lambda b: b[0], batches), extra)
    nothing = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
    ((losses, seen), gradient), _ = lax.scan(add, nothing, batches)
    return (losses / count, seen), jax.tree.map(lambda g: g / count, gradient)
