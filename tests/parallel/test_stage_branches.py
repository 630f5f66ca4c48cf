"""What dies of a pipeline do in turns counts as often as they do it, forward and back, as written and as compiled."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest
from jax import lax
from jax.sharding import PartitionSpec as P

from snap_jax._compat import as_varying
from snap_jax.parallel.mesh import auto_mesh
from snap_jax.parallel.stage_branches import each_its_own, while_busy
from snap_jax.traffic import Transfer, branch_scopes
from snap_jax.traffic.hlo import compiled_traffic
from snap_jax.traffic.jaxpr import collective_traffic

DIES, SIZES = 2, (8, 24)  # numbers that each die sums, over two chips, in two replicas of all


def program(microbatches, works, mesh):
    """So many ticks of a pipeline in which nothing goes on; its gradient too."""

    def total(weights, x):
        die = lax.axis_index("stage")

        def tick(carry, t):
            busy = (t >= die) & (t - die < microbatches)
            work, idle = lambda: works(die, weights, x), lambda: as_varying(jnp.zeros(()), ("data", "stage"))
            return carry + while_busy(busy, work, idle, sizes=(microbatches, DIES)), None

        start = as_varying(jnp.zeros(()), ("data", "stage"))
        return lax.psum(lax.scan(tick, start, jnp.arange(microbatches + DIES - 1))[0], ("data", "stage"))

    run = jax.value_and_grad(total)
    return jax.jit(jax.shard_map(run, mesh=mesh, in_specs=(P(), P("data", "stage", "x")), out_specs=(P(), P())))


def summed(size):
    """Forward a sum of so many numbers, and one back: of what each chip has to say of the weights that all have."""
    return lambda weights, x: jnp.sum(lax.psum((weights * x.reshape(-1))[:size], "x") ** 2)


def apart(die, weights, x):
    local = as_varying(weights, ("data", "stage"))
    return each_its_own(die, [summed(size) for size in SIZES], local, x)


def alike(die, weights, x):
    return summed(SIZES[0])(as_varying(weights, ("data", "stage")), x)


@pytest.mark.parametrize("microbatches", [1, 3])
@pytest.mark.parametrize(("works", "sizes"), [(apart, SIZES), (alike, SIZES[:1] * DIES)], ids=["apart", "alike"])
def test_a_sum_counts_once_a_microbatch_in_the_groups_of_its_die(works, sizes, microbatches):
    """A sum of n floats over two chips is 2 * 4 n bytes, in each of two replicas."""
    mesh = auto_mesh({"data": 2, "stage": DIES, "x": 2})
    run, args = program(microbatches, works, mesh), (jnp.arange(32.0), jnp.ones((2, 2, 2, 32)))
    expected = {"forward": microbatches * 2 * 2 * 4 * sum(sizes), "backward": microbatches * 2 * 2 * 4 * 32 * DIES}
    for traffic in (collective_traffic(run)(*args), compiled_traffic(run.lower(*args).compile(), mesh)):
        sums = traffic.where(lambda t: t.axes == ("x",))
        for direction, nbytes in expected.items():
            assert sums.where(lambda t, d=direction: t.direction == d).sent_bytes == nbytes
        assert traffic.choices == ()
        assert {t.path for t in sums} == {""}
        if works is alike:  # at every tick some die has a microbatch
            assert sum(t.times for t in sums if t.direction == "forward") == microbatches + DIES - 1


def test_of_unrolled_ticks_all_are_left():
    once = Transfer("psum", ("x",), 2, "float32", 32, groups=2)
    assert list(branch_scopes.taken(once, [branch_scopes.busy(3, 2)])) == [once]
    inside = dataclasses.replace(once, times=4)
    assert sum(t.sent_bytes for t in branch_scopes.taken(inside, [branch_scopes.busy(3, 2)])) == 3 * once.sent_bytes
