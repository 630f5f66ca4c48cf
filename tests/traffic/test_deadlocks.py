"""Collectives that some devices reach and others do not are found in the program, without running it."""

import jax
import jax.numpy as jnp
import pytest
from jax import lax
from jax.sharding import PartitionSpec as P

import snap_jax as snap
from snap_jax.parallel.gpipe import GPipe
from snap_jax.parallel.one_f_one_b import OneFOneB
from snap_jax.traffic.deadlocks import DeadlockError, assert_no_deadlocks
from snap_jax.training.tasks import assemble
from snap_jax.training.tasks.layout import Layout
from tests.support import toy
from tests.support.jaxpr_programs import ROWS, X, gathered, mesh_of, shifted

SAME = lambda v: v
AXES = ("y", "x")


def on_mesh(f, check_vma=True, in_specs=ROWS, out_specs=ROWS):
    return jax.shard_map(f, mesh=mesh_of(), in_specs=in_specs, out_specs=out_specs, check_vma=check_vma)


def doubled_until(most):
    """A loop whose number of rounds its data decide."""
    return lambda body: lambda v: lax.while_loop(lambda u: most(u) < 50, lambda u: 2 * body(u), v)


# Predicate over the axes y and x, and the axes over which it may differ.
PREDICATES = {
    "an index": (lambda v: lax.axis_index("x") > 0, {"x"}),
    "the data": (lambda v: v.sum() > 0, {"x", "y"}),
    "a sum over one axis": (lambda v: lax.psum(v.sum(), "x") > 0, {"y"}),
    "a sum over both": (lambda v: lax.psum(v.sum(), AXES) > 0, set()),
    "a maximum of some": (lambda v: lax.pmax(v, "x").sum() > lax.axis_index("x"), {"x", "y"}),
    "everybody's data": (lambda v: lax.all_gather(v, AXES).sum() > 0, set()),
    "a part of the sum": (lambda v: lax.psum_scatter(jnp.ones(4), "x").sum() > 0, {"x"}),
    "a neighbor's index": (lambda v: lax.ppermute(lax.axis_index("y"), "y", [(0, 1), (1, 0)]) > 0, {"y"}),
    "a loop's end": (lambda v: doubled_until(jnp.sum)(SAME)(v).sum() > 9, {"x", "y"}),
    "a scan's carry": (
        lambda v: (
            lax.scan(lambda c, _: (c + lax.axis_index("x"), None), 0 * lax.axis_index("x"), None, length=3)[0] > 2
        ),
        {"x"},
    ),
    "a branch's result": (lambda v: lax.cond(lax.axis_index("y") > 0, lambda: 1, lambda: 0) > 0, {"y"}),
    "a constant": (lambda v: jnp.ones(()) > 0, set()),
    "a jitted function": (lambda v: jax.jit(lambda u: u + lax.axis_index("x"))(0) > 0, {"x"}),
}


@pytest.mark.parametrize("check_vma", [True, False])
@pytest.mark.parametrize("name", PREDICATES)
def test_a_collective_in_a_branch_that_devices_take_differently(name, check_vma):
    predicate, differs = PREDICATES[name]
    for axis in AXES:
        once = lambda v, axis=axis: v + lax.axis_index(axis) * lax.psum(v.sum(), axis)
        program = on_mesh(lambda v, once=once: lax.cond(predicate(v), once, SAME, v), check_vma)
        if axis in differs:
            with pytest.raises(DeadlockError, match=rf"psum +{axis} +forward +cond +{axis}"):
                assert_no_deadlocks(program, X)
        else:
            assert_no_deadlocks(program, X)


@pytest.mark.parametrize("check_vma", [True, False])
@pytest.mark.parametrize(("agreed", "fails"), [(AXES, False), (("x",), False), (("y",), True), ((), True)])
def test_a_loop_that_devices_leave_at_different_times(agreed, fails, check_vma):
    most = lambda u: lax.pmax(u.max(), agreed) if agreed else u.max()
    program = on_mesh(doubled_until(most)(gathered), check_vma)
    if fails:
        with pytest.raises(DeadlockError, match=r"all_gather +x +forward +up +while +x"):
            assert_no_deadlocks(program, X)
    else:
        assert_no_deadlocks(program, X)


def test_a_difference_that_arrives_in_a_later_round_is_found():
    """The first round decides by 0, the second by the index."""

    def f(v):
        def step(carry, _):
            flag, u = carry
            return (lax.axis_index("x"), lax.cond(flag > 0, shifted, SAME, u)), None

        return lax.scan(step, (0, v), None, length=3)[0][1]

    with pytest.raises(DeadlockError, match="ppermute"):
        assert_no_deadlocks(on_mesh(f, check_vma=False), X)


def test_the_error_says_where_and_how_to_mend():
    def f(v):
        with jax.named_scope("ladder"):
            return lax.switch(lax.axis_index("x"), [SAME, gathered, shifted], v)

    with pytest.raises(DeadlockError) as raised:
        assert_no_deadlocks(on_mesh(f), X)
    heading, _, *rows, fix = str(raised.value).splitlines()
    assert heading.startswith("assert_no_deadlocks(f): devices of one group disagree")
    assert [row.split() for row in rows] == [
        ["all_gather", "x", "forward", "ladder/up", "cond", "at", "'ladder'", "x"],
        ["ppermute", "x", "forward", "ladder", "cond", "at", "'ladder'", "x"],
    ]
    assert "jnp.where" in fix
    assert "lax.pmax" in fix


def test_the_sum_that_jax_adds_for_replicated_parameters_is_found():
    """The gradient of `w`, the same on all devices, is summed where `w` is used: inside the branch."""

    def loss(w, x):
        def local(w, v):
            y = lax.cond(lax.axis_index("x") > 0, lambda v: jnp.tanh(v * w), SAME, v)
            return lax.psum(y.sum(), AXES)

        return on_mesh(local, in_specs=(P(), ROWS), out_specs=P())(w, x)

    assert_no_deadlocks(loss, 2.0, X)
    with pytest.raises(DeadlockError, match=r"psum .*backward[\s\S]*pcast"):
        assert_no_deadlocks(jax.grad(loss), 2.0, X)


@pytest.mark.parametrize("codec", ["count:3+ladder", "count:3+rans"])
def test_wires_of_several_sizes_agree_first(codec):
    coded = lambda v: snap.all_gather(v, "x", codec=codec, tiled=True)[:1]
    assert_no_deadlocks(on_mesh(coded), X)
    assert_no_deadlocks(on_mesh(coded, check_vma=False), X)
    inside = lambda v: lax.cond(lax.axis_index("x") > 0, coded, SAME, v)
    with pytest.raises(DeadlockError, match="all_gather"):
        assert_no_deadlocks(on_mesh(inside), X)


@pytest.mark.parametrize("schedule", [GPipe, OneFOneB])
def test_pipelines_have_none(schedule):
    codecs = snap.codec("count:3+rans"), snap.codec("int4")
    task, params = assemble.build(toy.build(), Layout(data=2, pipeline=2, tensor=2), *codecs, schedule=schedule)
    assert_no_deadlocks(task.loss_and_gradient, params, toy.batch(2, 4))
