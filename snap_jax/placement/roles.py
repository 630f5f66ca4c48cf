"""What each role of a rule does around the calls of a module.

Outside of `shard_map`, where the axis of a rule is not known, a module computes on one device: codecs quantize.
"""

import abc
import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array

from snap_jax import collectives
from snap_jax._compat import is_mesh_axis, tracks_varying, varying_axes
from snap_jax.boundary.boundary import Boundary
from snap_jax.codecs.codec import Codec
from snap_jax.errors import UsageError
from snap_jax.parallel.tensor_parallel import spread, total
from snap_jax.placement.hooks import Call, Hook


class RoleHook(Hook):
    """A hook that a rule has made.

    Attributes:
      role: of the rule.
      axis: of the rule.
      splits: parameter of the module -> the dimension along which the devices of the axis divide it; "**" stands for
        all parameters below the module.
    """

    role: str
    axis: str | None

    def __init__(self, axis: str | None = None, splits: Mapping[str, int] | None = None):
        self.axis = axis
        self.splits = nnx.static(tuple((splits or {}).items()))

    @property
    def over_devices(self) -> bool:
        """Whether this runs inside `shard_map`, over the axis of the rule."""
        return self.axis is not None and is_mesh_axis((self.axis,))

    @property
    def boundaries(self) -> list[Boundary]:
        """The boundaries that this hook holds."""
        return [module for _, module in nnx.iter_modules(self) if isinstance(module, Boundary)]

    def require_divided(self, module: nnx.Module) -> None:
        """Check that devices hold their parts of the parameters in `splits`, where the types of JAX tell.

        Raises:
          UsageError: for a parameter that is the same on all devices: a sum would add it once per device.
        """
        axes = (str(self.axis),)
        if lax.axis_size(self.axis) == 1 or not tracks_varying(axes):
            return
        for name, _ in self.splits:
            parameter = vars(module).get(name)
            if isinstance(parameter, nnx.Variable) and axes[0] not in varying_axes(parameter[...]):
                raise UsageError(
                    f"snap.place: each device of axis {self.axis!r} holds all of {type(module).__name__}.{name}, not "
                    "its part: give shard_map in_specs=(snap.place_specs(model), ...) for the parameters"
                )

    @abc.abstractmethod
    def around(self, call: Call, module: nnx.Module, *args: Any, **kwargs: Any) -> Any:
        """Return what the call returns now."""


class BoundaryAfter(RoleHook):
    """Codes some arrays of what a module returns, each by a boundary of its own.

    Attributes:
      leaves: which of the arrays, in the order of `jax.tree.leaves`.
      crossing: the boundary of each.
    """

    role = "boundary"

    def __init__(self, leaves: Sequence[int], crossing: Sequence[Boundary]):
        super().__init__()
        self.leaves, self.crossing = nnx.static(tuple(leaves)), nnx.List(list(crossing))

    def around(self, call, module, *args, **kwargs):
        """Return the output as the other side of the boundaries will see it."""
        leaves, structure = jax.tree.flatten(call(module, *args, **kwargs))
        for place, boundary in zip(self.leaves, self.crossing, strict=True):
            leaves[place] = boundary(leaves[place])
        return jax.tree.unflatten(structure, leaves)


class ColumnParallel(RoleHook):
    """A layer whose outputs are shared: the cotangents of what enters are summed."""

    role = "column"

    def __init__(self, axis: str, splits: Mapping[str, int], link: Boundary, attributes: Sequence[str] = ()):
        super().__init__(axis, splits)
        self.link, self.attributes = link, nnx.static(tuple(attributes))

    def around(self, call, module, *args, **kwargs):
        """Return the features of this device."""
        if not self.over_devices:
            return call(module, *args, **kwargs)
        self.require_divided(module)
        inside = jax.tree.map(lambda x: spread(x, str(self.axis), self.link.grad_codec) if _is_float(x) else x, args)
        with _of_one_device(module, self.attributes, self.axis):
            return call(module, *inside, **kwargs)


class RowParallel(RoleHook):
    """A layer whose inputs are shared: partial results are summed as spikes, then the bias is added."""

    role = "row"

    def __init__(self, axis: str, splits: Mapping[str, int], link: Boundary):
        super().__init__(axis, splits)
        self.link = link

    def around(self, call, module, *args, **kwargs):
        """Return `psum(codec.quantize(partial)) + bias`."""
        if self.over_devices:
            self.require_divided(module)
        bias = vars(module).get("bias")
        if isinstance(bias, nnx.Variable):
            module = _without_bias(module)
        partial, codec = call(module, *args, **kwargs), self.link.codec
        if self.over_devices:
            with jax.named_scope("boundary"):
                size = lax.axis_size(self.axis)
                y = total(partial, str(self.axis), codec, self.link.grad_codec, devices=size)
        else:
            y = partial if codec is None else codec.quantize(partial)
        return y + bias[...].astype(y.dtype) if isinstance(bias, nnx.Variable) else y


class Divide(RoleHook):
    """A module whose integer attributes count what one device has, while it runs over devices."""

    role = "divide"

    def __init__(self, axis: str, attributes: Sequence[str]):
        super().__init__(axis)
        self.attributes = nnx.static(tuple(attributes))

    def around(self, call, module, *args, **kwargs):
        """Call it with the attributes of one device."""
        if not self.over_devices:
            return call(module, *args, **kwargs)
        with _of_one_device(module, self.attributes, self.axis):
            return call(module, *args, **kwargs)


class Gather(RoleHook):
    """A module whose output all devices need: it is concatenated along its last axis."""

    role = "all_gather"

    def __init__(self, axis: str, link: Boundary):
        super().__init__(axis)
        self.link = link

    def around(self, call, module, *args, **kwargs):
        """Return the features of all devices."""
        y, codec = call(module, *args, **kwargs), self.link.codec
        if not self.over_devices:
            return y if codec is None else codec.quantize(y)
        with jax.named_scope("boundary"):
            return collectives.all_gather(
                y,
                str(self.axis),
                axis=y.ndim - 1,
                tiled=True,
                to="invarying",
                codec=codec,
                grad_codec=self.link.grad_codec,
            )


class Exchange(RoleHook):
    """Experts of which each device has some: what they compute on is exchanged, and so is what they return."""

    role = "all_to_all"

    def __init__(self, axis: str, there: Boundary, back: Boundary):
        super().__init__(axis, {"**": 0})
        self.there, self.back = there, back

    def around(self, call, module, x, *args, **kwargs):
        """Return for `[experts, capacity, features]` of this device what the experts of all devices make of it."""
        y = call(module, self._sent(x, self.there, 0, 1), *args, **kwargs)
        return self._sent(y, self.back, 1, 0)

    def _sent(self, x: Array, boundary: Boundary, split_axis: int, concat_axis: int) -> Array:
        if self.over_devices:
            return boundary.all_to_all(x, str(self.axis), split_axis, concat_axis, tiled=True)
        return x if boundary.codec is None else boundary.codec.quantize(x)


class Gradients(RoleHook):
    """Says how gradients of the parameters below are averaged; changes no call."""

    role = "gradients"

    def __init__(self, axis: str, codec: Codec | None):
        super().__init__(axis)
        self.rule_codec = nnx.static(codec)

    def around(self, call, module, *args, **kwargs):
        """Return what the call returns."""
        return call(module, *args, **kwargs)


def coded_leaves(output: Any, part: int | str | None) -> list[int]:
    """Return which arrays of an output are coded: those of floats with an axis, below `part` if it is given.

    >>> coded_leaves((jnp.ones((2, 3)), {"aux": jnp.ones(()), "x": jnp.ones((2, 3))}), None)
    [0, 2]
    >>> coded_leaves((jnp.ones((2, 3)), jnp.ones((2, 3))), 1)
    [1]
    """
    found = jax.tree_util.tree_leaves_with_path(output)
    keys = [getattr(path[0], "idx", getattr(path[0], "key", getattr(path[0], "name", None))) if path else None
            for path, _ in found]  # fmt: skip
    return [
        i
        for i, ((_, leaf), key) in enumerate(zip(found, keys, strict=True))
        if _is_float(leaf) and leaf.ndim and part in (None, key)
    ]


def _is_float(x: Any) -> bool:
    return isinstance(x, jax.Array | jax.ShapeDtypeStruct) and jnp.issubdtype(x.dtype, jnp.floating)


def _without_bias(module: nnx.Module) -> Any:
    graph, state = nnx.split(module)
    flat = dict(nnx.to_flat_state(state))
    zeros = jax.tree.map(jnp.zeros_like, flat["bias",])
    return nnx.merge(graph, nnx.from_flat_state({**flat, ("bias",): zeros}))


@contextlib.contextmanager
def _of_one_device(module: nnx.Module, names: Sequence[str], axis: str | None) -> Iterator[None]:
    """Set integer attributes to what one device has, for the time of a call."""
    before = {name: getattr(module, name) for name in names}
    size = int(lax.axis_size(axis))
    for name, whole in before.items():
        object.__setattr__(module, name, _share(f"{type(module).__name__}.{name}", whole, size))
    try:
        yield
    finally:
        for name, whole in before.items():
            object.__setattr__(module, name, whole)


def _share(name: str, whole: Any, size: int) -> Any:
    first, rest = (whole[0], whole[1:]) if isinstance(whole, tuple) else (whole, None)
    if not isinstance(first, int) or first % size:
        raise UsageError(f"snap.place: {size} devices do not divide {name}={whole!r}: use a divisor of it as axis size")
    return first // size if rest is None else (first // size, *rest)
