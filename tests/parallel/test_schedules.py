"""Schedules: who works when, what that costs in memory and idle ticks, and how it is counted in traffic."""

import inspect

import jax
import jax.numpy as jnp
import pytest
from jax import lax
from jax.sharding import PartitionSpec as P

import snap_jax as snap
from snap_jax._compat import as_varying
from snap_jax.boundary.boundary import Boundary
from snap_jax.parallel import one_f_one_b
from snap_jax.parallel.gpipe import GPipe
from snap_jax.parallel.mesh import auto_mesh
from snap_jax.parallel.one_f_one_b import OneFOneB
from snap_jax.parallel.pipeline import DifferentStages, SameStages
from snap_jax.traffic.hlo import compiled_traffic
from snap_jax.traffic.jaxpr import collective_traffic
from snap_jax.training.tasks import assemble
from snap_jax.training.tasks.layout import Layout
from tests.support import toy


@pytest.mark.parametrize(("microbatches", "stages"), [(1, 1), (1, 4), (3, 2), (5, 4), (8, 3)])
def test_1f1b_passes_every_microbatch_on_in_order_and_keeps_few(microbatches, stages):
    """Forward passes go from stage to stage by one slot each, backward passes in the other order."""
    schedule = OneFOneB(microbatches, stages)
    forward, backward = {}, {}
    for t in range(schedule.ticks):
        for stage in range(stages):
            ahead, behind = schedule.forward(t, stage), schedule.backward(t, stage)
            if 0 <= ahead < microbatches:
                forward[ahead, stage] = 2 * t + stage % 2
            if 0 <= behind < microbatches:
                backward[behind, stage] = 2 * t + 1 - stage % 2
    assert set(forward) == set(backward) == {(m, s) for m in range(microbatches) for s in range(stages)}
    for m in range(microbatches):
        for s in range(stages - 1):
            assert forward[m, s + 1] == forward[m, s] + 1
            assert backward[m, s] == backward[m, s + 1] + 1
        assert backward[m, stages - 1] == forward[m, stages - 1] + 1
    for s in range(stages):
        held = [
            sum(forward[m, s] <= slot < backward[m, s] for m in range(microbatches))
            for slot in range(2 * schedule.ticks)
        ]
        assert max(held) == min(stages - s, microbatches)


def temporary_bytes(schedule, microbatches, remat=None):
    """What a compiled step holds beside its arguments and results."""
    task, params = assemble.build(toy.build(2), Layout(pipeline=2), None, None, schedule=schedule, remat=remat)
    data = toy.batch(microbatches, rows=4, seq_len=32)
    return jax.jit(task.loss_and_gradient).lower(params, data).compile().memory_analysis().temp_size_in_bytes


def test_what_1f1b_keeps_does_not_grow_with_the_microbatches():
    """The memory that one more microbatch takes; a message is 4 x 32 x 8 floats.

    GPipe keeps what the derivative of each stage reads, with remat its message only, 1F1B neither.
    """
    message = 4 * 32 * 8 * 4
    grown = {
        name: (temporary_bytes(*args) - temporary_bytes(args[0], 4, *args[2:])) / 12
        for name, args in {
            "gpipe": (GPipe, 16),
            "remat": (GPipe, 16, "full"),
            "1f1b": (OneFOneB, 16),
        }.items()
    }
    assert grown["gpipe"] > 4 * message
    assert message <= grown["remat"] < 0.5 * grown["gpipe"]
    assert grown["1f1b"] < 0.1 * message


def test_a_schedule_is_a_short_file():
    assert len(list(filter(str.strip, inspect.getsource(one_f_one_b).splitlines()))) <= 100


SIZES = (8, 24)  # numbers that each of two stages sums, over two devices, in two replicas of all


def summed(weights, y, size):
    """Forward a sum of so many numbers; backward one of the 32 weights, which both devices hold."""
    x = as_varying(jnp.ones(32), ("data", "stage", "x"))
    return y + jnp.sum(lax.psum((weights * x)[:size], "x") ** 2)


def same(weights):
    return SameStages(
        enter=lambda w, x: x,
        body=lambda w, y: summed(w, y, SIZES[0]),
        leave=lambda w, y, x: (jnp.sum(y), ()),
        boundary=lambda w: Boundary(None, 1),
        stages=2,
    )


def different(weights):
    return DifferentStages(
        enter=lambda w, x: x,
        bodies=[lambda w, y, size=size: summed(w, y, size) for size in SIZES],
        leave=lambda w, y, x: (jnp.sum(y), ()),
        boundaries=lambda w: [Boundary(None, 1)] * 2,
    )


@pytest.mark.parametrize(
    ("make", "schedule"),
    [(same, GPipe(1, 2)), (same, OneFOneB(3, 2)), (different, GPipe(3, 2)), (different, OneFOneB(3, 2))],
)
def test_a_sum_inside_a_stage_counts_once_per_microbatch_for_the_devices_of_its_stage(make, schedule):
    """A sum of n floats over two devices is 2 * 4 n bytes, in each of two replicas; 1F1B sums again when it recomputes.

    A program without its schedule shows more: all ticks, for all stages.
    """
    mesh, m = auto_mesh({"data": 2, "stage": 2, "x": 2}), schedule.microbatches

    def total(weights, xs):
        local = as_varying(weights, ("stage", "data"))
        return lax.psum(schedule.run(make(local), local, as_varying(xs, ("data",)))[0], "data")

    run = jax.shard_map(jax.value_and_grad(total), mesh=mesh, in_specs=(P(), P()), out_specs=(P(), P()))
    run, args = jax.jit(run), (jnp.arange(32.0), jnp.ones((m, 1)))
    sizes = SIZES if make is different else SIZES[:1] * 2
    passes = 2 if isinstance(schedule, OneFOneB) else 1
    expected = {"forward": passes * m * 2 * 2 * 4 * sum(sizes), "backward": m * 2 * 2 * 4 * 32 * 2}
    for traffic in (
        collective_traffic(run, schedule=schedule)(*args),
        compiled_traffic(run.lower(*args).compile(), mesh, schedule=schedule),
    ):
        sums = traffic.where(lambda t: t.axes == ("x",))
        assert {way: sums.where(lambda t, w=way: t.direction == w).sent_bytes for way in expected} == expected
        assert traffic.choices == ()
    blind = collective_traffic(run)(*args).where(lambda t: t.axes == ("x",))
    assert blind.sent_bytes > sum(expected.values())


def test_mistakes_are_named():
    with pytest.raises(snap.UsageError, match="GPipe: microbatches=0, stages=2: use 1 or more of both"):
        GPipe(0, 2)
