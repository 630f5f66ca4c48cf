"""Train anybody's model to a number of bits per element, in a loop of one's own."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from snap_jax.boundary.rate_control import Crossing, RateController, control_rate, crossing, rate_loss
from snap_jax.errors import UsageError
from snap_jax.placement.crossing_samples import boundaries_of, placed_boundaries
from snap_jax.placement.hooks import Hook, hooks_of
from snap_jax.placement.module_paths import HOOKS, modules_of
from snap_jax.placement.roles import BoundaryAfter


class _Measured(Hook):
    """Changes what a module returns."""

    def __init__(self, code: Callable[[Any], Any]):
        self.code = nnx.static(code)

    def around(self, call, module, *args, **kwargs):
        return self.code(call(module, *args, **kwargs))


def _measured(hook: BoundaryAfter, note: Callable[[Crossing], None]) -> _Measured:
    """Code as the boundaries of a rule do, and note what they would send."""

    def code(output: Any) -> Any:
        leaves, structure = jax.tree.flatten(output)
        for place, boundary in zip(hook.leaves, hook.crossing, strict=True):
            z, codec = boundary.prepare(leaves[place]), boundary.codec
            note(crossing(boundary, z))
            leaves[place] = boundary.restore(z if codec is None else codec.quantize(z))
        return jax.tree.unflatten(structure, leaves)

    return _Measured(code)


def _in_order(placed: Sequence[tuple[str, BoundaryAfter]], notes: Sequence[list[Crossing]]) -> list[Crossing]:
    """Return what was noted in the order of the boundaries, which need not be that of the calls."""
    for (path, hook), noted in zip(placed, notes, strict=True):
        if len(noted) != len(hook.crossing):
            calls = len(noted) // max(len(hook.crossing), 1)
            raise UsageError(f"budget: {path} is called {calls} times by the loss: a boundary needs one call")
    return [crossing for noted in notes for crossing in noted]


def _scalar(value: Any) -> Array:
    if isinstance(value, tuple | list | dict) or jnp.shape(value):
        kind = f"{type(value).__name__}" if isinstance(value, tuple | list | dict) else f"shape {jnp.shape(value)}"
        raise UsageError(f"budget: the loss has {kind}: return one number, such as its mean")
    return value


@dataclasses.dataclass(frozen=True)
class Budget:
    """What a training loop needs to meet a budget at the boundaries of a placed model; see `budget`."""

    controller: RateController

    def init(self, model: nnx.Module) -> Float[Array, " boundaries"]:
        """Return the multipliers before the first step, one per boundary.

        Raises:
          UsageError: if the model has no boundaries.
        """
        if not boundaries_of(model):
            raise UsageError(
                "budget: the model has no boundary: place one, e.g. Rule('layers.*', 'boundary', 'count:3')"
            )
        return self.controller.init(len(boundaries_of(model)))

    def loss(self, program: Callable[[Any, Any], Array]) -> Callable[..., tuple[Array, Sequence[Crossing]]]:
        """Return `(model, batch, multipliers) -> (loss, crossings)`, with what the rate adds to the loss.

        Args:
          program: `(model, batch) -> loss`; a batch of several arrays is a tuple.

        Raises:
          UsageError: by the result, if a boundary is not called once, or the loss is not one number.
        """

        def penalized(model: Any, batch: Any, multipliers: Array) -> tuple[Array, Sequence[Crossing]]:
            placed, modules = placed_boundaries(model), modules_of(model)
            notes: list[list[Crossing]] = [[] for _ in placed]
            before = {path: getattr(modules[path], HOOKS) for path, _ in placed}
            try:
                for (path, hook), noted in zip(placed, notes, strict=True):
                    measured = _measured(hook, noted.append)
                    hooks = [measured if other is hook else other for other in hooks_of(modules[path])]
                    setattr(modules[path], HOOKS, nnx.List(hooks))
                value = program(model, batch)
            finally:
                for path, hooks in before.items():
                    setattr(modules[path], HOOKS, hooks)
            seen = _in_order(placed, notes)
            return _scalar(value) + rate_loss(self.controller, multipliers, seen), seen

        return penalized

    def update(
        self, model: nnx.Module, multipliers: Array, crossings: Sequence[Crossing], progress: Array | float
    ) -> Float[Array, " boundaries"]:
        """Move the thresholds of the model after a step of the optimizer; return the next multipliers.

        Args:
          model: changed in place.
          multipliers: of that step.
          crossings: what the loss returned beside its value.
          progress: how much of the run is done, in [0, 1].
        """
        return control_rate(self.controller, multipliers, boundaries_of(model), crossings, progress)


def budget(bits_per_element: float | RateController) -> Budget:
    """Return what trains the boundaries of a placed model to a number of bits per element, as measured.

    Args:
      bits_per_element: of each boundary; or a `RateController` with settings of your own.

    >>> import jax.numpy as jnp
    >>> import optax
    >>> from snap_jax.placement import Rule, place
    >>> model = nnx.Sequential(nnx.Linear(8, 16, rngs=nnx.Rngs(0)), nnx.relu, nnx.Linear(16, 1, rngs=nnx.Rngs(1)))
    >>> placed = place(model, [Rule("layers.0", "boundary", "count:15+rans")])
    >>> rate = budget(0.5)
    >>> loss = rate.loss(lambda model, x: jnp.mean((model(x) - x[:, :1]) ** 2))
    >>> optimizer = nnx.Optimizer(placed, optax.adam(1e-3), wrt=nnx.Param)
    >>> @nnx.jit
    ... def step(model, optimizer, multipliers, x, progress):
    ...     (_, seen), gradient = nnx.value_and_grad(loss, has_aux=True)(model, x, multipliers)
    ...     optimizer.update(model, gradient)
    ...     return rate.update(model, multipliers, seen, progress), seen[0].measured
    >>> x, multipliers = jax.random.normal(jax.random.key(0), (512, 8)), rate.init(placed)
    >>> for i in range(60):
    ...     multipliers, bits = step(placed, optimizer, multipliers, x, i / 60)
    >>> bool(0.45 < bits < 0.55)
    True
    """
    given = bits_per_element
    return Budget(given if isinstance(given, RateController) else RateController(given))
