"""Programs compiled for 8 emulated devices: `compiled_traffic` counts what `collective_traffic` does."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest
from jax import lax
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from snap_jax.errors import UsageError
from snap_jax.traffic.hlo import compiled_traffic
from snap_jax.traffic.jaxpr import collective_traffic
from tests.support.traffic_meshes import ROWS, mesh_of, sharded

SHIFT = ((0, 1), (1, 2), (2, 3), (3, 0))


def gathered(v):
    with jax.named_scope("up"):
        return lax.all_gather(v, "x", axis=0, tiled=True)[:1]


def shifted(v):
    return lax.ppermute(v, "x", SHIFT)


def scanned(f, length):
    return lambda v: lax.scan(lambda c, _: (f(c), None), v, None, length=length)[0]


def combined(v):
    a, b, c = lax.psum((v, v + v, v[0, 0]), ("y", "x"))
    return a + b + c + v


def laddered(v):
    index = lax.pmax(v.sum().astype(jnp.int32), ("y", "x"))
    return lax.switch(index, [shifted, gathered, lambda u: u], v)


PROGRAMS = {
    "all_gather": gathered,
    "all_gather over both": lambda v: lax.all_gather(v, ("y", "x"), axis=0, tiled=True)[:1],
    "all_gather to invarying": lambda v: lax.all_gather(v, "x", axis=0, tiled=True, to="invarying")[:1] + v,
    "all_gather untiled": lambda v: lax.all_gather(v, "y", axis=1)[:, 0],
    "all_gather of a scalar": lambda v: lax.all_gather(v[0, 0], "x").sum().astype(v.dtype) + v,
    "all_gather in groups": lambda v: lax.all_gather(v, "x", axis_index_groups=[[0, 1], [2, 3]])[0],
    "psum": lambda v: lax.psum(v, "x") + v,
    "psum over y": lambda v: lax.psum(v, "y") + v,
    "psum of several": combined,
    "pmax": lambda v: lax.pmax(v, "x") + v,
    "pmin": lambda v: lax.pmin(v, "y") + v,
    "psum_scatter": lambda v: lax.psum_scatter(v, "x", scatter_dimension=1, tiled=True),
    "psum_scatter untiled": lambda v: lax.psum_scatter(v.reshape(4, 4), "x"),
    "all_to_all": lambda v: lax.all_to_all(v, "x", 1, 0, tiled=True),
    "all_to_all untiled": lambda v: lax.all_to_all(v.reshape(4, 4), "x", 0, 0),
    "all_to_all over both": lambda v: lax.all_to_all(v, ("y", "x"), 1, 0, tiled=True),
    "ppermute": shifted,
    "ppermute along y": lambda v: lax.ppermute(v, "y", [(0, 1)]),
    "ppermute over both": lambda v: lax.ppermute(v, ("y", "x"), [(0, 7), (7, 0)]),
    "scan": scanned(gathered, 5),
    "nested scan": scanned(lambda v: scanned(gathered, 3)(shifted(v)), 5),
    "while": lambda v: lax.while_loop(lambda c: c[0] < 6, lambda c: (c[0] + 2, shifted(c[1])), (0, v))[1],
    "switch": laddered,
    "scan of switch": scanned(laddered, 5),
}


def compiled(f, *args):
    return jax.jit(f).lower(*args).compile()


def comparable(traffic):
    """XLA cuts the operand of an all_to_all in pieces, sends a scalar as an array, and reorders: all else is equal."""
    return sorted((dataclasses.replace(t, shape=()) for t in traffic), key=repr)


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_jaxpr_and_hlo_agree(name, dtype):
    mesh, x = mesh_of(), jnp.ones((8, 16), dtype)
    f = sharded(PROGRAMS[name], mesh)
    asked, sent = collective_traffic(f)(x), compiled_traffic(compiled(f, x), mesh)
    assert len(asked) > 0
    if name == "ppermute over both":
        # Devices 0 and 7 differ along both axes.
        assert sent[0].axes == ("y", "x")
    assert comparable(asked) == comparable(sent)
    assert asked.least_sent_bytes == sent.least_sent_bytes


GRADIENTS = {
    "all_gather": gathered,
    "psum": lambda v: v * lax.psum(v * v, "x"),
    "psum_scatter": lambda v: lax.psum_scatter(jnp.sin(v), "x", scatter_dimension=1, tiled=True),
    "all_to_all": lambda v: lax.all_to_all(jnp.sin(v), "x", 1, 0, tiled=True),
    "ppermute": shifted,
    "scan": scanned(lambda v: jnp.sin(gathered(v)), 5),
    "scan of remat": scanned(jax.checkpoint(lambda v: jnp.sin(gathered(jnp.sin(v)))), 5),
}


@pytest.mark.parametrize("name", GRADIENTS)
def test_jaxpr_and_hlo_agree_on_gradients(name):
    mesh, x = mesh_of(), jnp.ones((8, 16))

    def loss(v):
        f = jax.named_call(GRADIENTS[name], name="net")
        g = jax.shard_map(lambda u: lax.pmean((f(u) ** 2).sum(), ("y", "x")), mesh=mesh, in_specs=ROWS, out_specs=P())
        return g(v)

    f = jax.value_and_grad(loss)
    asked, sent = collective_traffic(f)(x), compiled_traffic(compiled(f, x), mesh)
    assert {t.direction for t in asked} == {"forward", "backward"}
    assert comparable(asked) == comparable(sent)


def test_remat_asks_for_a_second_gather_which_the_compiler_may_merge_into_the_first():
    mesh, x = mesh_of(), jnp.ones((8, 16))
    f = jax.grad(lambda v: (sharded(jax.checkpoint(lambda u: jnp.sin(gathered(u))), mesh)(v) ** 2).sum())
    asked, sent = comparable(collective_traffic(f)(x)), comparable(compiled_traffic(compiled(f, x), mesh))
    assert [t.op for t in asked] == ["all_gather", "all_gather", "psum_scatter"]
    assert set(sent) <= set(asked)
    assert {t.op for t in sent} == {"all_gather", "psum_scatter"}


def test_bfloat16_is_sent_as_float32_on_this_backend():
    x = jnp.ones((8, 16), jnp.bfloat16)
    f = sharded(gathered, mesh_of())
    [asked], [sent] = collective_traffic(f)(x), compiled_traffic(compiled(f, x))
    assert (asked.dtype, asked.bytes) == ("bfloat16", 32)
    assert (sent.dtype, sent.bytes) == ("float32", 64)


@pytest.mark.parametrize("order", [slice(None, None, -1), [0, 3, 1, 2, 7, 5, 6, 4]])
def test_axes_whatever_the_order_of_devices(order):
    mesh, x = mesh_of(order=order), jnp.ones((8, 16))
    for axis in ("y", "x"):
        f = sharded(lambda v, axis=axis: lax.psum(v, axis) + v, mesh)
        assert [t.axes for t in compiled_traffic(compiled(f, x), mesh)] == [(axis,)]


def test_axes_of_three_dimensional_meshes():
    mesh, x = mesh_of((2, 2, 2), ("a", "b", "c")), jnp.ones((8, 16))
    spec = P(("a", "b", "c"))
    f = jax.shard_map(lambda v: lax.psum(v, ("a", "c")) + v, mesh=mesh, in_specs=spec, out_specs=spec)
    assert compiled_traffic(compiled(f, x), mesh) == collective_traffic(f)(x)
    assert collective_traffic(f)(x)[0].axes == ("a", "c")


def test_without_a_mesh_bytes_are_the_same_and_axes_unknown():
    mesh, x = mesh_of(), jnp.ones((8, 16))
    for f in (gathered, shifted):
        program = compiled(sharded(f, mesh), x)
        [bare], [named] = compiled_traffic(program), compiled_traffic(program.as_text(), mesh)
        assert (bare.axes, named.axes) == ((), ("x",))
        assert bare.sent_bytes == named.sent_bytes


def test_mesh_of_another_size_raises():
    program = compiled(sharded(gathered, mesh_of()), jnp.ones((8, 16)))
    with pytest.raises(UsageError, match=r"the mesh has 4 devices, the program 8: pass the mesh"):
        compiled_traffic(program, mesh_of((2, 2), order=slice(4)))


def test_what_the_compiler_adds_outside_shard_map():
    mesh = mesh_of()
    put = lambda *spec: NamedSharding(mesh, P(*spec))
    f = jax.jit(lambda a, b: a @ b, in_shardings=(put(None, "x"), put("x", None)), out_shardings=put())
    a, b = jnp.ones((6, 8)), jnp.ones((8, 10))
    [t] = compiled_traffic(f.lower(a, b).compile(), mesh)
    assert (t.op, t.axes, t.shape, t.group_size, t.groups) == ("psum", ("x",), (6, 10), 4, 2)
    assert not collective_traffic(f)(a, b)


def test_program_on_one_device_moves_nothing():
    assert not compiled_traffic(compiled(lambda v: v @ v.T, jnp.ones((8, 16))))
