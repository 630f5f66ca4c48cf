"""How a payload of the size agreed on crosses: all its bytes, no others, in one message or two."""

import itertools
import math

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
GRID = size_grid.sizes(301, size_grid.SPARSE)
FEW = (10, 42, 190, 301)


def shipped(sizes):
    """A compiled all-gather of a body and a tail per device at a rung, and its traffic as written."""

    def on_device(body, tail, rung):
        return ship(body[0], tail[0], sizes, rung, lambda row: lax.all_gather(row, "x"))

    f = jax.shard_map(on_device, mesh=auto_mesh({"x": DEVICES}), in_specs=(P("x"), P("x"), P()), out_specs=P("x"))
    args = bytes_of(sizes[-1]), bytes_of(TAIL), jnp.uint8(0)
    return jax.jit(f).lower(*args).compile(), collective_traffic(f)(*args)


def bytes_of(length):
    return jnp.asarray(np.random.default_rng(length).integers(1, 256, (DEVICES, length), np.uint8))


@pytest.mark.parametrize("sizes", [GRID, GRID[2:], FEW, (301,)], ids=["grid", "part of a grid", "few", "one"])
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
        assert len(each.choices) == {GRID: 2, GRID[2:]: 2, FEW: 1, (301,): 0}[sizes]


@pytest.mark.parametrize("shares", [size_grid.SPARSE, size_grid.DENSE], ids=["sparse", "dense"])
@pytest.mark.parametrize("most", [2000, 4096, 100_003])
def test_a_size_of_a_grid_is_two_messages_of_few_lengths(most, shares):
    sizes = size_grid.sizes(most, shares)
    pairs = size_grid.two_messages(sizes)
    assert tuple(map(sum, pairs)) == sizes
    assert sizes[-1] == most
    first, second = (sorted(set(lengths)) for lengths in zip(*pairs, strict=True))
    assert max(len(first), len(second)) <= 8
    assert second[0] == 0
    assert first[-1] + second[-1] == most  # so a second message fits wherever the first ends
    for lengths in (first, second):
        assert all(b - a >= size_grid.LEAST_STEP for a, b in itertools.pairwise(lengths))
    for nbytes in (1, most // 64, most // 3, most // 2 + 1, most):
        assert size_grid.round_up(nbytes, most, shares) == min(s for s in sizes if s >= nbytes)


@pytest.mark.parametrize(
    ("shares", "least", "mean", "worst"), [(size_grid.SPARSE, 64, 0.055, 0.23), (size_grid.DENSE, 16, 0.036, 0.15)]
)
def test_little_is_rounded_up(shares, least, mean, worst):
    """The mean over sizes whose logarithm is uniform: the integral of next / x - 1 over log x."""
    most = 2**20
    sizes = (most // least, *(size for size in size_grid.sizes(most, shares) if size > most // least))
    gaps = [b / a - 1 for a, b in itertools.pairwise(sizes)]
    assert max(gaps) < worst
    assert sum(gap - math.log1p(gap) for gap in gaps) / math.log(least) < mean


def test_other_sizes_are_one_message():
    assert size_grid.two_messages(FEW) is None
    assert size_grid.two_messages((41, *GRID[1:])) is None
    assert size_grid.two_messages(GRID[:1]) is None
