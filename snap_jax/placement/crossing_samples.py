"""What would cross the boundaries of a placed model, for calibration and for training to a budget."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
from flax import nnx
from jaxtyping import Array

from snap_jax.boundary.boundary import Boundary
from snap_jax.boundary.calibrate import calibrate as calibrate_boundary
from snap_jax.errors import UsageError
from snap_jax.placement.hooks import Hook, hooks_of
from snap_jax.placement.module_paths import HOOKS, modules_of
from snap_jax.placement.roles import BoundaryAfter


class _Sampler(Hook):
    """Notes what would be coded by the boundaries around it, and codes nothing."""

    def __init__(self, leaves: Sequence[int], note: Callable[[list[Array]], None]):
        self.noted = nnx.static((tuple(leaves), note))

    def around(self, call, module, *args, **kwargs):
        output = call(module, *args, **kwargs)
        leaves, note = self.noted
        note([jax.tree.leaves(output)[place] for place in leaves])
        return output


def calibrate(model: nnx.Module, sample: Sequence[Any] | Callable[[Any], Any], *, bits: float) -> None:
    """Start the boundaries of a placed model from a sample of what will cross them, before anything is coded.

    The model is run once as floats. Each boundary gets the largest threshold at which its spikes have the bits asked
    for, as `snap_jax.boundary.calibrate` says; transforms are set too.

    Args:
      model: placed, or what `PlacedStages.join` returned; its boundaries are changed in place.
      sample: arguments of the model, or a function that calls it, e.g. `lambda model: loss(model, batch)`; some
        thousand vectors at each boundary.
      bits: entropy per element that spikes start with.

    Raises:
      UsageError: if the model has no boundaries; for a sample that cannot be calibrated on, see `calibrate`.

    >>> from snap_jax.placement import Rule, place
    >>> model = nnx.Sequential(nnx.Linear(4, 8, rngs=nnx.Rngs(0)), nnx.Linear(8, 2, rngs=nnx.Rngs(1)))
    >>> placed = place(model, [Rule("layers.0", "boundary", "count:3")])
    >>> x = jax.random.normal(jax.random.key(0), (99, 4))
    >>> calibrate(placed, (x,), bits=2.0)
    >>> codec = boundaries_of(placed)[0].codec
    >>> 0.8 < float(codec.encoding.threshold[0] / model.layers[0](x).std()) < 1.3  # 2 = 2.05 - log2(step)
    True
    """
    boundaries = boundaries_of(model)
    if not boundaries:
        raise UsageError("calibrate: the model has no boundary: place one, e.g. Rule('layers.*', 'boundary', ...)")
    for boundary, samples in zip(boundaries, samples_of(model, sample), strict=True):
        calibrate_boundary(boundary, samples.reshape(-1, samples.shape[-1]), bits=bits)


def boundaries_of(model: nnx.Module) -> list[Boundary]:
    """Return the boundaries that rules of the role `boundary` have placed, in the order of the model."""
    return [b for _, hook in placed_boundaries(model) for b in hook.crossing]


def samples_of(model: nnx.Module, sample: Sequence[Any] | Callable[[Any], Any]) -> list[Array]:
    """Return what each boundary would get for a sample if nothing were coded.

    Raises:
      UsageError: if a module with a boundary is not called, or is called twice.
    """
    plain, seen = nnx.clone(model), []
    for path, hook in placed_boundaries(plain):
        module, notes = modules_of(plain)[path], []
        seen.append((path, notes))
        sampler = _Sampler(hook.leaves, notes.append)
        setattr(module, HOOKS, nnx.List([sampler if h is hook else h for h in hooks_of(module)]))
    sample(plain) if callable(sample) else plain(*sample)
    for path, notes in seen:
        if len(notes) != 1:
            raise UsageError(f"calibrate: {path} is called {len(notes)} times by the sample: call it once")
    return [array for _, notes in seen for array in notes[0]]


def placed_boundaries(model: nnx.Module) -> list[tuple[str, BoundaryAfter]]:
    """Return the hooks of rules of the role `boundary`, with the paths of their modules."""
    modules = modules_of(model).items()
    return [(path, hook) for path, m in modules for hook in hooks_of(m) if isinstance(hook, BoundaryAfter)]
