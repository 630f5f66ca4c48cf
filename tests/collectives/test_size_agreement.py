"""How a payload of the size agreed on crosses: all its bytes, no others, in parts or in one message."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import PartitionSpec as P

from snap_jax.collectives.size_agreement import ship
from snap_jax.parallel.mesh import auto_mesh
from snap_jax.traffic.hlo import compiled_traffic
from snap_jax.traffic.jaxpr import collective_traffic
from snap_jax.wires import size_grid

DEVICES, TAIL = 2, 3
GRID = (42, 79, 116, 153, 190, 227, 264, 301)  # 301 // 8 = 37 apart
FEW = (10, 20, 301)


def shipped(sizes):
    """A compiled all-gather of a body and a tail per device at a rung, and its traffic as written."""

    def on_device(body, tail, rung):
        return ship(body[0], tail[0], sizes, rung, lambda row: lax.all_gather(row, "x"))

    f = jax.shard_map(on_device, mesh=auto_mesh({"x": DEVICES}), in_specs=(P("x"), P("x"), P()), out_specs=P("x"))
    args = bytes_of(sizes[-1]), bytes_of(TAIL), jnp.uint8(0)
    return jax.jit(f).lower(*args).compile(), collective_traffic(f)(*args)


def bytes_of(length):
    return jnp.asarray(np.random.default_rng(length).integers(1, 256, (DEVICES, length), np.uint8))


@pytest.mark.parametrize("sizes", [GRID, GRID[2:], FEW], ids=["grid", "part of a grid", "few"])
def test_exactly_the_bytes_of_the_size_and_the_tail_cross(sizes):
    program, traffic = shipped(sizes)
    body, tail = bytes_of(sizes[-1]), bytes_of(TAIL)
    for rung, size in enumerate(sizes):
        arrived, arrived_tail = (both.reshape(DEVICES, DEVICES, -1) for both in program(body, tail, jnp.uint8(rung)))
        np.testing.assert_array_equal(arrived, np.broadcast_to(np.where(np.arange(301) < size, body, 0), arrived.shape))
        np.testing.assert_array_equal(arrived_tail, np.broadcast_to(tail, arrived_tail.shape))
    for each in (traffic, compiled_traffic(program)):
        always = sum(t.bytes for t in each) - sum(c.branches[c.counted].transfers[0].bytes for c in each.choices)
        branches = [[sum(t.bytes for t in branch) for branch in c.branches] for c in each.choices]
        possible = {always + sum(taken) for taken in itertools.product(*branches)}
        assert {size + TAIL for size in sizes} <= possible
        assert len(each.choices) == (1 if sizes == FEW else 3)


def test_a_grid_is_made_of_parts_and_has_all_their_sums():
    for most in (64, 301, 4096, 100_003):
        first, *others = size_grid.parts(size_grid.sizes(most))
        sums = {first + sum(some) for n in range(len(others) + 1) for some in itertools.combinations(others, n)}
        assert sums == set(size_grid.sizes(most))
    assert size_grid.sizes(301) == GRID
    assert len(size_grid.sizes(2**20)) == 2**size_grid.PARTS


def test_sizes_that_lie_on_no_grid_have_no_parts():
    assert size_grid.parts(FEW) is None
    assert size_grid.parts((41, *GRID[1:])) is None
    assert size_grid.parts((63,)) == (63,)
