"""Local steps: replicas train alone, and now and then exchange how far their parameters have moved, as spikes.

Invariant: after an exchange the parameters are the same on all replicas. With floats, one local step of SGD, and outer
SGD of rate 1 without momentum, this is data parallelism.

State is explicit: a pytree that `lax.scan` carries and checkpoints hold.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import optax
from jax import lax
from jaxtyping import PyTree

from snap_jax._compat import as_varying
from snap_jax.codecs.codec import Codec
from snap_jax.codecs.link_spec import as_codec
from snap_jax.collectives.scale_exchange import AxisName, axes_of
from snap_jax.parallel.error_feedback import ErrorFeedbackState, Sizes, error_feedback

OUTER_LR, OUTER_MOMENTUM = 0.7, 0.9  # Douillard et al. 2023, arXiv:2311.08105, section 3.1
SCOPE = "outer"  # of `jax.named_scope`, around an exchange


class LocalStepsState(NamedTuple):
    """The state of `local_steps`.

    Attributes:
      params: the parameters after the last exchange, the same on all replicas.
      optimizer: state of the outer optimizer, the same on all replicas.
      feedback: what this replica has not sent yet; None where floats are sent.
    """

    params: PyTree
    optimizer: PyTree
    feedback: ErrorFeedbackState | None


class LocalSteps(NamedTuple):
    """What `local_steps` returns.

    Attributes:
      init: parameters, the same on all replicas -> the first state.
      exchange: parameters of this replica and the state -> those of all replicas, and the next state.
    """

    init: Callable[[PyTree], LocalStepsState]
    exchange: Callable[[PyTree, LocalStepsState], tuple[PyTree, LocalStepsState]]


def outer_optimizer(learning_rate: float = OUTER_LR, momentum: float = OUTER_MOMENTUM) -> optax.GradientTransformation:
    """Return Nesterov SGD: `v' = momentum v + u`, a step of `-learning_rate (u + momentum v')`."""
    return optax.sgd(learning_rate, momentum=momentum, nesterov=True)


def local_steps(
    codec: Codec | str | None,
    axis_name: AxisName,
    outer: optax.GradientTransformation | None = None,
    *,
    sizes: Sizes | None = None,
) -> LocalSteps:
    """Return the exchange after the local steps of replicas, DiLoCo (Douillard et al. 2023, arXiv:2311.08105).

    `u = shared - params + residual` is sent, `residual' = u - quantize(u)`, and `shared' = shared + outer(mean over
    replicas of quantize(u))`: how far a replica has moved is the gradient of the outer optimizer. Between exchanges
    nothing is sent. Call both functions inside `shard_map`. The inner optimizer and its state are the replica's own:

        outer, adamw = snap.local_steps("ternary", "data"), optax.adamw(1e-3)

        def several_steps(params, inner, state, batches):  # the batches of this replica, 30 for example
            for batch in batches:
                updates, inner = adamw.update(jax.grad(loss)(params, batch), inner, params)
                params = optax.apply_updates(params, updates)
            params, state = outer.exchange(params, state)
            return params, inner, state

    Args:
      codec: how to send, with error feedback, see `error_feedback`; None sends floats.
      axis_name: mesh axis of the replicas, or a tuple of them.
      outer: the outer optimizer; by default Nesterov SGD of rate 0.7 and momentum 0.9.
      sizes: as in `error_feedback`.

    Raises:
      UsageError: as `error_feedback`.

    Two replicas that have moved from 10 to 9 and 7 agree on 8, without momentum:

    >>> one = local_steps(None, "data", optax.sgd(1.0))
    >>> agreed = lambda params: one.exchange(params, one.init(jnp.float32(10)))[0]
    >>> jax.vmap(agreed, axis_name="data")(jnp.array([9.0, 7.0])).tolist()
    [8.0, 8.0]
    """
    coder, axes = as_codec(codec), axes_of(axis_name)
    rule = outer or outer_optimizer()
    feedback = None if coder is None else error_feedback(coder, axis_name, sizes=sizes)

    def init(params: PyTree) -> LocalStepsState:
        kept: Any = None if feedback is None else feedback.init(params)
        return LocalStepsState(params, rule.init(params), kept)

    def exchange(params: PyTree, state: LocalStepsState) -> tuple[PyTree, LocalStepsState]:
        moved = jax.tree.map(lambda shared, own: as_varying(shared - own, axes), state.params, params)
        with jax.named_scope(SCOPE):
            mean, kept = _mean(moved, state.feedback)
        updates, rest = rule.update(mean, state.optimizer, state.params)
        shared: Any = optax.apply_updates(state.params, updates)
        return jax.tree.map(lambda p: as_varying(p, axes), shared), LocalStepsState(shared, rest, kept)

    def _mean(moved: PyTree, state: ErrorFeedbackState | None) -> tuple[PyTree, ErrorFeedbackState | None]:
        return (lax.pmean(moved, axis_name), None) if feedback is None else feedback.update(moved, state)  # pyright: ignore[reportReturnType, reportArgumentType]

    return LocalSteps(init, exchange)
