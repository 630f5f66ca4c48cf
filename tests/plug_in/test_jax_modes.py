"""What JAX users do with a program: export it, compile it ahead of time, donate its buffers, set its mesh."""

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from jax import export
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import snap_jax as snap
from snap_jax.parallel.mesh import auto_mesh
from tests.support.programs import sample

HOP = [(0, 1), (1, 0)]
MESH = auto_mesh({"x": 2})


def send(x, threshold):
    return snap.ppermute(x, "x", HOP, codec=snap.Codec(snap.Count(3, threshold)))


def program(mesh=MESH, **keywords):
    mapped = jax.shard_map(send, mesh=mesh, in_specs=(P("x"), P()), out_specs=P("x"), check_vma=True)
    return jax.jit(mapped, **keywords)


def expected(x, threshold):
    """Devices exchange their halves."""
    quantized = np.asarray(snap.Count(3, threshold).quantize(jnp.asarray(x)))
    return np.concatenate([quantized[len(x) // 2 :], quantized[: len(x) // 2]])


def arguments(mesh=MESH):
    """An array of its own for each test: it may be donated."""
    return jax.device_put(sample((4, 16)), NamedSharding(mesh, P("x"))), jnp.asarray(0.5)


def test_compiled_ahead_of_time_with_a_donated_buffer():
    x, threshold = arguments()
    wanted = expected(np.asarray(x), 0.5)
    compiled = program(donate_argnums=0).lower(x, threshold).compile()
    np.testing.assert_array_equal(compiled(x, threshold), wanted)
    assert x.is_deleted()


def test_exported_with_its_gradient():
    """The threshold is an argument of the exported program."""
    x, threshold = arguments()
    exported = export.export(program())(x, threshold)
    np.testing.assert_array_equal(exported.call(x, jnp.asarray(0.25)), expected(np.asarray(x), 0.25))
    assert exported.has_vjp()
    loss = lambda run: lambda x, t: jnp.sum(run(x, t) ** 2)
    there, here = (jax.jit(jax.grad(loss(run), (0, 1)))(x, threshold) for run in (exported.call, program()))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), there, here)


@pytest.fixture
def unchecked():
    """Annotations say `int`, which symbolic sizes are not."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def symbolic(*dimensions, mesh=None):
    shape = tuple(export.symbolic_shape("b")[0] if n == "b" else n for n in dimensions)
    sharding = None if mesh is None else NamedSharding(mesh, P("x"))
    return jax.ShapeDtypeStruct(shape, jnp.float32, sharding=sharding)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("words", ["count:3", "int8"])
def test_quantize_is_exported_for_any_number_of_rows(words):
    quantize = jax.jit(snap.codec(words).quantize)
    exported = export.export(quantize)(symbolic("b", 16))
    x = sample((5, 16))
    np.testing.assert_array_equal(exported.call(x), quantize(x))


@pytest.mark.usefixtures("unchecked")
def test_what_is_packed_needs_known_sizes():
    """JAX itself fails to run a `shard_map` that computes with symbolic sizes."""
    with pytest.raises(snap.UsageError, match=r"ppermute: .* symbolic sizes.*export a program for each size"):
        export.export(program())(symbolic(2, "b", mesh=MESH), jnp.asarray(0.5))
    with pytest.raises(snap.UsageError, match=r"encode: .* symbolic sizes"):
        export.export(jax.jit(snap.codec("count:3").encode))(symbolic("b", 16))


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=lambda kind: kind.name)
def test_a_mesh_that_is_set_is_the_mesh(kind):
    """Of any type; outside of `shard_map`, quantizing leaves a divided array where it is."""
    mesh = jax.make_mesh((2,), ("x",), axis_types=(kind,))
    with jax.set_mesh(mesh):
        x, threshold = arguments(mesh)
        received = program(mesh=None)(x, threshold)
        assert received.sharding.is_equivalent_to(x.sharding, x.ndim)
        np.testing.assert_array_equal(received, expected(np.asarray(x), 0.5))
        quantize = jax.jit(snap.codec("count:3").quantize).lower(x).compile()
        # One flag crosses: whether all of the array is finite.
        assert [t.bytes for t in snap.compiled_traffic(quantize, mesh)] == [1]
