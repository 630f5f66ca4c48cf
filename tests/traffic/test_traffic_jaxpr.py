"""`collective_traffic`: expected numbers are derived in each test from shapes, mesh and loop lengths."""

import jax
import jax.numpy as jnp
import pytest
from jax import lax
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from snap_jax.errors import UsageError
from snap_jax.traffic import Traffic, Transfer
from snap_jax.traffic.hlo import compiled_traffic
from snap_jax.traffic.jaxpr import collective_traffic, traffic_of
from tests.support.jaxpr_programs import ROW, ROWS, SHIFT, X, gathered, mesh_of, sharded, shifted, switch

# One collective over x (4 members) of a 64-byte row; the mesh holds two such groups.
ONE = {
    "all_gather": (gathered, 4 * 3 * ROW),
    "psum": (lambda v: lax.psum(v, "x") + v, 2 * 3 * ROW),
    "pmax": (lambda v: lax.pmax(v, "x") + v, 2 * 3 * ROW),
    "pmin": (lambda v: lax.pmin(v, "x") + v, 2 * 3 * ROW),
    "psum_scatter": (lambda v: lax.psum_scatter(v, "x", scatter_dimension=1, tiled=True), 3 * ROW),
    "all_to_all": (lambda v: lax.all_to_all(v, "x", 1, 0, tiled=True), 3 * ROW),
    "ppermute": (shifted, 4 * ROW),
    "pbroadcast": (lambda v: lax.pbroadcast(v, "x", 0), 3 * ROW),
}


@pytest.mark.parametrize("op", ONE)
def test_every_collective_is_counted(op):
    f, sent_in_one_group = ONE[op]
    [t] = collective_traffic(sharded(f))(X)
    perm = ((0, 1), (1, 2), (2, 3), (3, 0)) if op == "ppermute" else ()
    path = "up" * (op == "all_gather")
    size = len(perm)
    assert t == Transfer(op, ("x",), 4, "float32", ROW, path=path, shape=(1, 16), groups=2, pairs=size, perm=perm)
    assert t.sent_bytes == 2 * sent_in_one_group


@pytest.mark.parametrize(
    ("dtype", "name", "size"),
    [("uint8", "uint8", 1), ("bfloat16", "bfloat16", 2), ("bool", "bool", 1), ("complex64", "complex64", 8)],
)
def test_dtype_and_bytes(dtype, name, size):
    [t] = collective_traffic(sharded(gathered))(X.astype(dtype))
    assert (t.dtype, t.bytes) == (name, 16 * size)


def test_result_that_does_not_vary_is_a_gather_all_the_same():
    f = sharded(lambda v: lax.all_gather(v, ("y", "x"), axis=0, tiled=True, to="invarying"), out=P())
    [t] = collective_traffic(f)(X)
    assert (t.op, t.axes, t.group_size, t.groups, t.sent_bytes) == (
        "all_gather",
        ("y", "x"),
        8,
        1,
        8 * 7 * ROW,
    )


def test_without_check_vma_psum_is_another_primitive():
    f = lambda v: lax.psum(v, "x")
    old = jax.shard_map(f, mesh=mesh_of(), in_specs=P("x"), out_specs=P(), check_vma=False)
    new = jax.shard_map(f, mesh=mesh_of(), in_specs=P("x"), out_specs=P())
    assert collective_traffic(old)(X) == collective_traffic(new)(X)
    assert len(collective_traffic(old)(X)) == 1


def test_each_operand_is_one_transfer():
    def f(v):
        a, b, c = lax.psum((v, v.astype(jnp.uint8), v.sum()), "x")
        return a + b + c + v

    found = [(t.dtype, t.shape, t.bytes) for t in collective_traffic(sharded(f))(X)]
    assert found == [("float32", (1, 16), 64), ("uint8", (1, 16), 16), ("float32", (), 4)]


def test_axis_index_groups():
    f = lambda v: lax.all_gather(v, "x", axis=0, axis_index_groups=[[0, 1], [2, 3]], tiled=True)[:1]
    [t] = collective_traffic(sharded(f))(X)
    assert (t.group_size, t.groups, t.sent_bytes) == (2, 4, 4 * 2 * ROW)


def test_ppermute_to_oneself_moves_nothing():
    [t] = collective_traffic(sharded(lambda v: lax.ppermute(v, "x", [(0, 1), (2, 2)])))(X)
    assert (t.perm, t.pairs, t.sent_bytes) == (((0, 1),), 1, 2 * ROW)
    assert not collective_traffic(sharded(lambda v: lax.ppermute(v, "x", [(2, 2)])))(X)


def test_casts_and_indices_move_nothing():
    f = lambda v: v + lax.pcast(jnp.ones(16), ("y", "x"), to="varying") * lax.axis_index("x")
    assert collective_traffic(sharded(f))(X) == Traffic()


def test_axis_of_one_device_moves_nothing():
    mesh = mesh_of((8, 1))
    assert not collective_traffic(sharded(gathered, mesh=mesh))(X)
    [t] = collective_traffic(sharded(lambda v: lax.psum(v, ("y", "x")) + v, mesh=mesh))(X)
    assert (t.axes, t.group_size) == (("y", "x"), 8)


def test_empty_array_moves_nothing():
    assert not collective_traffic(sharded(gathered))(X[:, :0])


def test_vmap_keeps_the_mesh_axis():
    [t] = collective_traffic(sharded(lambda v: jax.vmap(gathered)(v[None])[0]))(X)
    assert (t.axes, t.bytes) == (("x",), ROW)


def test_vmapped_axes_are_reduced_on_the_device_before_sending():
    f = lambda v: jax.vmap(lambda u: lax.psum(u, ("x", "k")), axis_name="k")(v.reshape(4, 4))
    whole = jax.shard_map(f, mesh=mesh_of(), in_specs=ROWS, out_specs=P("y"), check_vma=False)
    [t] = collective_traffic(whole)(X)
    assert (t.axes, t.shape, t.bytes) == (("x",), (4,), 16)
    [sent] = compiled_traffic(jax.jit(whole).lower(X).compile(), mesh_of())
    assert (sent.axes, sent.shape, sent.bytes) == (("x",), (4,), 16)


def test_source_of_a_dynamic_broadcast_is_not_sent():
    broadcast = jax.extend.core.Primitive("pbroadcast_dynamic")
    broadcast.def_abstract_eval(lambda a, source, **_: a)
    [t] = collective_traffic(sharded(lambda v: broadcast.bind(v, 1, axis_name=("x",))))(X)
    assert (t.op, t.bytes, t.sent_bytes) == ("pbroadcast", ROW, 2 * 3 * ROW)


def test_unused_results_do_not_count():
    f = lambda v: (gathered(v), v)[1]
    assert not collective_traffic(sharded(f))(X)
    turning = lambda c: (lax.pmax(c[1].sum(), ("y", "x")), c[0] < 5)[1]
    f = lambda v: lax.while_loop(turning, lambda c: (c[0] + 1, shifted(c[1])), (0, v))[1]
    assert [t.op for t in collective_traffic(sharded(f))(X)] == ["ppermute"]


def test_static_arguments_of_a_jitted_function_and_keywords():
    f = jax.jit(lambda v, how, *, scale: how(v) * scale, static_argnames=("how",))
    assert len(collective_traffic(f)(X, how=sharded(gathered), scale=2.0)) == 1


def test_pmap_is_a_shard_map():
    [t] = collective_traffic(jax.pmap(lambda v: lax.psum(v, "i"), axis_name="i"))(X)
    assert (t.op, t.axes, t.group_size, t.bytes) == ("psum", ("i",), 8, ROW)


def test_explicit_axes_divide_the_operand_of_a_partly_manual_shard_map():
    mesh = mesh_of(kind=AxisType.Explicit)
    x = jax.device_put(X, jax.NamedSharding(mesh, P("x", "y")))
    f = lambda v: jax.shard_map(
        lambda u: lax.psum(u, "x"), mesh=mesh, in_specs=P("x", None), out_specs=P(), axis_names={"x"}
    )(v)
    [t] = collective_traffic(jax.jit(f))(x)
    assert (t.shape, t.groups, t.axes) == ((2, 8), 2, ("x",))


def test_auto_axes_of_a_partly_manual_shard_map_count_whole():
    f = lambda v: jax.shard_map(
        lambda u: lax.psum(u, "x"), mesh=mesh_of(), in_specs=P("x"), out_specs=P(), axis_names={"x"}
    )(v)
    [t] = collective_traffic(jax.jit(f))(X)
    assert (t.shape, t.groups) == ((2, 16), 2)


def test_ragged_all_to_all_raises():
    def f(v):
        i = lax.pcast(jnp.zeros(4, jnp.int32), ("y", "x"), to="varying")
        return lax.ragged_all_to_all(v[0], v[0], i, i, i, i, axis_name="x")[None]

    with pytest.raises(UsageError, match=r"ragged_all_to_all .*use lax\.all_to_all"):
        collective_traffic(sharded(f))(X)


def without_mesh(f):
    return jax.make_jaxpr(f, axis_env=[("x", 4)])(X)


def test_collective_outside_its_mesh_raises():
    with pytest.raises(UsageError, match=r"ppermute outside every .* over \['x'\], .*trace the function that calls"):
        traffic_of(without_mesh(shifted))


def unknown_primitive(name, params):
    """A primitive that jax of tomorrow might add."""
    primitive = jax.extend.core.Primitive(name)
    primitive.def_abstract_eval(lambda a, **_: a)
    return lambda v: primitive.bind(v, **params)


def test_unknown_primitive_on_a_mesh_axis_raises():
    f = unknown_primitive("teleport", {"axis_name": ("x",)})
    with pytest.raises(UsageError, match=r"primitive 'teleport' .* names mesh axes \['x'\].*compiled_traffic"):
        collective_traffic(sharded(f))(X)


def test_unknown_primitive_off_the_mesh_is_local():
    f = unknown_primitive("polish", {"axis": "channel", "axes": (0, 1)})
    assert len(collective_traffic(sharded(lambda v: shifted(f(v))))(X)) == 1


def test_unknown_primitive_that_holds_a_collective_raises():
    def f(v):
        return unknown_primitive("deferred", {"jaxpr": without_mesh(shifted)})(v)

    with pytest.raises(UsageError, match=r"primitive 'deferred' .* holds collectives \['ppermute'\]"):
        collective_traffic(sharded(f))(X)


def test_start_is_counted_and_done_is_free():
    start, done = (
        unknown_primitive("ppermute_start", {"axis_name": ("x",), "perm": SHIFT}),
        unknown_primitive("ppermute_done", {"axis_name": ("x",)}),
    )
    assert collective_traffic(sharded(lambda v: done(start(v))))(X) == collective_traffic(sharded(shifted))(X)


def test_json_keeps_choices():
    traffic = collective_traffic(sharded(switch))(X)
    assert Traffic.from_json(traffic.to_json()) == traffic


def test_where_filters_the_branches_too():
    kept = collective_traffic(sharded(switch))(X).where(lambda t: t.op != "all_gather")
    assert [t.op for t in kept] == ["pmax"]
    assert [len(b) for b in kept.choices[0].branches] == [1, 0, 0]


def test_prints_as_a_table():
    lines = str(collective_traffic(sharded(switch))(X)).splitlines()
    assert lines[0].split() == ["op", "over", "operand", "times", "sent", "bytes", "direction", "path"]
    assert lines[2].split() == [
        "all_gather",
        "x",
        "(4)",
        "float32[1,16]",
        "1",
        "1,536",
        "forward",
        "ladder/up",
    ]
    assert lines[-1].split()[:2] == ["total", "1,592"]
    assert lines[-1].endswith("56 when the cheapest branches are taken")
