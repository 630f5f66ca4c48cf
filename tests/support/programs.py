"""Programs to test invariants on: a collective, its lax namesake, and value and gradient of both on one mesh."""

import dataclasses
import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import PartitionSpec as P

import snap_jax as snap
from snap_jax._compat import as_varying
from snap_jax.encodings import surrogates
from snap_jax.parallel.mesh import auto_mesh
from tests.support.poisoned import Poisoned

PERM = "perm"


def chain(axis):
    """Pairs (i, i + 1): the first device receives nothing."""
    return [(i, i + 1) for i in range(lax.axis_size(axis) - 1)]


@dataclasses.dataclass(frozen=True)
class Pair:
    """A coded collective and what it must equal."""

    coded: Callable
    plain: Callable


def in_float32(add, q):
    """`add(q)`, where no partial sum overflows a float16: `lax` may return infinity for a sum that fits."""
    one = lambda q: add(q.astype(jnp.float32)).astype(q.dtype) if q.dtype == jnp.float16 else add(q)
    return jax.tree.map(one, q)


PAIRS = {
    "all_gather": Pair(
        lambda x, axis, c, **k: snap.all_gather(x, axis, codec=c, **k), lambda q, axis: lax.all_gather(q, axis)
    ),
    "all_gather-tiled": Pair(
        lambda x, axis, c, **k: snap.all_gather(x, axis, axis=1, tiled=True, codec=c, **k),
        lambda q, axis: lax.all_gather(q, axis, axis=1, tiled=True),
    ),
    "all_gather-invarying": Pair(
        lambda x, axis, c, **k: snap.all_gather(x, axis, to="invarying", codec=c, **k),
        lambda q, axis: lax.all_gather(q, axis, to="invarying"),
    ),
    "ppermute": Pair(
        lambda x, axis, c, **k: snap.ppermute(x, axis, chain(axis), codec=c, **k),
        lambda q, axis: lax.ppermute(q, axis, chain(axis)),
    ),
    "all_to_all-untiled": Pair(
        lambda x, axis, c, **k: snap.all_to_all(x, axis, 0, 0, codec=c, **k),
        lambda q, axis: lax.all_to_all(q, axis, 0, 0),
    ),
    "all_to_all": Pair(
        lambda x, axis, c, **k: snap.all_to_all(x, axis, 1, 0, tiled=True, codec=c, **k),
        lambda q, axis: lax.all_to_all(q, axis, 1, 0, tiled=True),
    ),
    "pmean": Pair(
        lambda x, axis, c: snap.pmean(x, axis, codec=c),
        lambda q, axis: jax.tree.map(
            lambda total: total / lax.axis_size(axis), in_float32(lambda q: lax.psum(q, axis), q)
        ),
    ),
    "psum": Pair(
        lambda x, axis, c: snap.psum(x, axis, codec=c), lambda q, axis: in_float32(lambda q: lax.psum(q, axis), q)
    ),
    "psum_scatter-untiled": Pair(
        lambda x, axis, c, **k: snap.psum_scatter(x, axis, scatter_dimension=0, codec=c, **k),
        lambda q, axis: in_float32(lambda q: lax.psum_scatter(q, axis, scatter_dimension=0), q),
    ),
    "psum_scatter": Pair(
        lambda x, axis, c, **k: snap.psum_scatter(x, axis, scatter_dimension=1, tiled=True, codec=c, **k),
        lambda q, axis: in_float32(lambda q: lax.psum_scatter(q, axis, scatter_dimension=1, tiled=True), q),
    ),
}
MOVES = ("all_gather", "all_gather-tiled", "all_gather-invarying", "ppermute", "all_to_all", "all_to_all-untiled")
SUMS = ("psum", "pmean")

# Mesh axes, and those that the collective runs over.
MESHES = {
    "1": ({"x": 1}, "x"),
    "2": ({"x": 2}, "x"),
    "4": ({"x": 4}, "x"),
    "8": ({"x": 8}, "x"),
    "2x4": ({"x": 2, "y": 4}, ("x", "y")),
    "2x4 along y": ({"x": 2, "y": 4}, "y"),
    "2x2x2": ({"x": 2, "y": 2, "z": 2}, ("x", "y", "z")),
    "2x2x2 along y": ({"x": 2, "y": 2, "z": 2}, "y"),
    "2x2x2 along z, x": ({"x": 2, "y": 2, "z": 2}, ("z", "x")),
}
VMAP = "vmap of 4"  # over one device

ENCODINGS = {
    "ternary": lambda t: snap.Ternary(t),
    "ternary-atan": lambda t: snap.Ternary(t, dead_zone=1.0, surrogate=surrogates.ATan()),
    "count": lambda t: snap.Count(3, t),
    "count-token": lambda t: snap.Scaled(snap.Count(3, t), "token"),
    "rate": lambda t: snap.Rate(4, t),
    "rate-leaky": lambda t: snap.Rate(4, t, leak=0.8),
    "latency": lambda t: snap.Latency(5, t),
    "phase": lambda t: snap.Phase(3, t),
    "phase-block": lambda t: snap.Scaled(snap.Phase(3, 4 * t), 4),
    "integer": lambda t: snap.Int(4, t),
    "integer-absmax": lambda t: snap.Int(4),
    "integer-channel": lambda t: snap.Int(4, block="channel"),
    "integer-block": lambda t: snap.Int(4, block=2),
    "topk": lambda t: snap.TopK(0.1),
    "float": lambda t: snap.Cast("bfloat16"),
}
WIRES = {
    "packed": snap.Packed(),
    "radix": snap.Packed(radix=True),
    "bitmap": snap.Bitmap(),
    "ticks": snap.Bitplanes(),
    "ladder": Poisoned(snap.Ladder((snap.Events(0.25), snap.Packed()))),
    "rans": Poisoned(snap.Rans(ratio=2.0)),
}
PER_CHANNEL = jnp.linspace(0.3, 1.0, 16)


def assert_same(name, coded, plain):
    """Bit-equal where data only moves; to float rounding where gradients or values are summed."""
    tolerance = 2e-2 if coded[0].dtype.itemsize == 2 else 1e-5
    for index, (a, b) in enumerate(zip(coded, plain, strict=True)):
        if name in MOVES and index == 0:
            np.testing.assert_array_equal(a.view(np.uint8), b.view(np.uint8))
        expected = b.astype(np.float32)
        scale = np.max(np.abs(expected), where=np.isfinite(expected), initial=1.0)
        np.testing.assert_allclose(a.astype(np.float32), expected, atol=tolerance * scale)


def both(
    pair, codec_of, x, threshold, *, mesh_name="8", oracle=None, shared=True, check_vma=True, scale=1.0, **keywords
):
    """(value, gradient of x, gradient of threshold) of the coded collective and of its oracle, in one program.

    The gradient is that of a function of `y / scale`. A threshold of integers has no gradient.
    """
    sizes, axis = ({"x": 4}, "x") if mesh_name == VMAP else MESHES[mesh_name]
    names = tuple(sizes)
    oracle = oracle or pair.plain
    learned = (0, 1) if jnp.issubdtype(jnp.result_type(threshold), jnp.floating) else (0,)

    def run(function, x, threshold):
        def loss(x, threshold):
            y = function(x, codec_of(threshold))
            weight = jnp.sin(jnp.arange(y.size, dtype=jnp.float32)).reshape(y.shape)
            weight = weight * (1 + lax.axis_index(names))
            return jnp.sum(jnp.tanh(y.astype(jnp.float32) / scale) * weight), y

        (_, y), gradients = jax.value_and_grad(loss, argnums=learned, has_aux=True)(x, threshold)
        return jax.tree.map(lambda a: as_varying(a, names)[None], (y, *gradients))

    def program(x, threshold):
        threshold = threshold if shared else as_varying(threshold, names)
        coded = run(lambda x, c: pair.coded(x, axis, c, **keywords), x, threshold)
        plain = run(lambda x, c: oracle(c.quantize(x), axis), x, threshold)
        return coded, plain

    if mesh_name == VMAP:
        mapped = jax.vmap(program, in_axes=(0, None), axis_name="x")
        x = x.reshape(4, -1, *x.shape[1:])
    else:
        specs = {"in_specs": (P(names), P()), "out_specs": P(names), "check_vma": check_vma}
        mapped = jax.shard_map(program, mesh=auto_mesh(sizes), **specs)
    return jax.tree.map(np.asarray, jax.jit(mapped)(x, threshold))


def group_size(mesh_name):
    """Devices that take part in the collective."""
    sizes, axis = ({"x": 4}, "x") if mesh_name == VMAP else MESHES[mesh_name]
    return math.prod(sizes[name] for name in ((axis,) if isinstance(axis, str) else axis))


def sample(shape, dtype="float32", seed=0):
    """Unit normal numbers."""
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), dtype)


def compiled(function, *args, mesh_name="8", out_specs=None):
    """The compiled program of `function` inside shard_map, inputs divided along their first dimension."""
    sizes, _ = MESHES[mesh_name]
    specs = P(tuple(sizes))
    mapped = jax.shard_map(
        functools.partial(function), mesh=auto_mesh(sizes), in_specs=specs, out_specs=out_specs or specs
    )
    return jax.jit(mapped).lower(*args).compile()
