"""One block of a program that the compiler shards, run by each device on its own shards.

Invariant: `island(fn, axis, codec, ...)(*args)` is the sum over `axis` of `codec.quantize(fn(*shards))`.

Under `jit` with sharded arguments the compiler adds collectives where arrays meet, in floats, and where it likes. In an
island it adds none: all mesh axes are manual there, and what crosses is what the island sends.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh, AxisType, Mesh
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, PyTree

from snap_jax.codecs.codec import Codec
from snap_jax.codecs.link_spec import as_codec
from snap_jax.collectives.shards import take_arrays
from snap_jax.errors import UsageError
from snap_jax.parallel.tensor_parallel import spread, total

Specs = Any  # a PartitionSpec for an argument, or a pytree of them


def island(
    fn: Callable[..., PyTree],
    axis: str | None = None,
    codec: Codec | str | None = None,
    *,
    grad_codec: Codec | str | None = None,
    specs: tuple[Specs, ...] | None = None,
    out_specs: Specs | None = None,
    mesh: Mesh | AbstractMesh | None = None,
) -> Callable[..., PyTree]:
    """Return a function of the arguments of `fn` that runs `fn` on the shards of each device, and sums over `axis`.

    Call it under `jit`, like any function. `fn` gets the part of each argument that lies on its device.

    Args:
      fn: returns a pytree of float arrays: parts of a sum, one per device of `axis`.
      axis: mesh axis over which the results are summed; `None` sums nothing, and `fn` may send by itself.
      codec: how the results travel; `None` sends floats.
      grad_codec: how cotangents of arguments travel that are the same along `axis`; `None` sends floats.
      specs: how each argument lies on the mesh, as `in_specs` of `jax.shard_map`. `None` reads it off the types of the
        arguments, which know it for `Explicit` mesh axes.
      out_specs: how the result lies; `None` takes that of the last argument, without `axis`.
      mesh: of these axes; `None` takes that of `jax.set_mesh`.

    Raises:
      UsageError: when called without a mesh, or where `specs` or `out_specs` are needed.

    >>> from snap_jax.encodings import Ternary
    >>> mesh = jax.make_mesh((2,), ("tp",), axis_types=(AxisType.Auto,))
    >>> spikes, lie = Codec(Ternary(threshold=3.0)), (P(None, "tp"), P("tp"))
    >>> product = island(jnp.matmul, "tp", spikes, specs=lie, out_specs=P(), mesh=mesh)
    >>> jax.jit(product)(jnp.ones((1, 8)), jnp.ones((8, 2))).tolist()  # 4 + 4, each sent as one spike of 3
    [[6.0, 6.0]]
    """
    codec, grad_codec = as_codec(codec), as_codec(grad_codec)
    if grad_codec is not None:  # the gradient of a threshold travels, too
        codec = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), codec)

    def on_shards(*args: Any) -> PyTree:
        where = _mesh(mesh, args)
        inside = tuple(_specs_of(arg, where) for arg in args) if specs is None else specs
        outside = _without(inside[-1], axis) if out_specs is None else out_specs
        arrays, rebuild = take_arrays(codec)

        def local(arrays: list[Array], *args: Any) -> PyTree:
            with jax.named_scope("snap.island"):
                if axis is None:
                    return fn(*args)
                parts = fn(*_spread(args, axis, grad_codec))
                send = functools.partial(total, axis_name=axis, codec=rebuild(arrays), grad_codec=grad_codec)
                return jax.tree.map(functools.partial(send, devices=where.shape[axis]), parts)

        mapped = jax.shard_map(local, mesh=where, in_specs=(P(), *inside), out_specs=outside)
        return mapped(arrays, *args)

    return on_shards


def _spread(args: tuple[Any, ...], axis: str, grad_codec: Codec | None) -> tuple[Any, ...]:
    if grad_codec is None:
        return args
    one = lambda x: spread(x, axis, grad_codec) if jnp.issubdtype(x.dtype, jnp.floating) else x  # noqa: E731
    return jax.tree.map(one, args)


def _mesh(given: Mesh | AbstractMesh | None, args: tuple[Any, ...]) -> Mesh | AbstractMesh:
    known = [jax.sharding.get_abstract_mesh(), *(jax.typeof(x).sharding.mesh for x in jax.tree.leaves(args))]
    found = next((mesh for mesh in known if not mesh.empty), None) if given is None else given
    if found is None:
        raise UsageError("island: there is no mesh here: call it within jax.set_mesh(mesh), or give mesh=")
    return found


def _specs_of(arg: Any, mesh: Mesh | AbstractMesh) -> Specs:
    if unknown := tuple(a for a, kind in zip(mesh.axis_names, mesh.axis_types, strict=True) if kind is AxisType.Auto):
        raise UsageError(
            f"island: only the compiler knows how arrays lie along the Auto axes {unknown}: give specs=, a "
            "PartitionSpec per argument, or make the axes Explicit"
        )
    return jax.tree.map(lambda x: jax.typeof(x).sharding.spec, arg)


def _without(spec: Specs, axis: str | None) -> P:
    """The spec of an array whose parts along `axis` are summed."""
    if not isinstance(spec, P):
        raise UsageError(
            "island: the last argument is not one array, whose division the result could have: give out_specs="
        )
    names = [(entry,) if isinstance(entry, str) else tuple(entry or ()) for entry in spec]
    return P(*(tuple(n for n in entry if n != axis) or None for entry in names))
