"""A ppermute over several mesh axes, which compilers write."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import snap_jax as snap
from snap_jax import cost
from snap_jax.cost import Chain, Ring, links
from snap_jax.cost.permutes import permute_stages

LINK = links.UCIE_STANDARD


def test_messages_move_along_one_axis_after_the_other():
    """On 2 x 4 chips: (0,0) -> (1,3), (0,1) -> (1,3), (1,2) -> (1,0)."""
    pairs = ((0, 7), (1, 7), (6, 4))
    (first, (down,)), (second, (along,)) = permute_stages(8, (Ring(2, LINK), Chain(4, LINK)), pairs)
    assert (first, second) == (0, 1)
    # Columns 0 and 1 each carry one message one hop down; there are four columns.
    (use,) = down.uses
    assert (use.hops, use.load, use.crossings) == (1, 1, 2 / 4)
    # In row 1 all move on: 0 -> 3 and 1 -> 3 share the links from 1 on, 2 -> 0 takes the other direction.
    (use,) = along.uses
    assert (use.hops, use.load, use.crossings) == (3, 2, (3 + 2 + 2) / 2)


def test_a_program_that_the_compiler_shards_has_a_price():
    """The transpose of a division over two axes: chips 1 and 2 exchange their quarters, each in two hops."""
    mesh = jax.make_mesh((2, 2), ("fsdp", "tp"), axis_types=(AxisType.Auto,) * 2)
    there, back = NamedSharding(mesh, P("fsdp", "tp")), NamedSharding(mesh, P("tp", "fsdp"))
    compiled = jax.jit(lambda x: x, in_shardings=there, out_shardings=back).lower(jnp.ones((8, 8))).compile()
    (move,) = traffic = snap.compiled_traffic(compiled, mesh)
    assert (move.op, move.axes, sorted(move.perm)) == ("ppermute", ("fsdp", "tp"), [(1, 2), (2, 1)])
    ring = Ring(2, LINK)
    energy = cost.price(traffic, cost.System({"fsdp": ring, "tp": ring})).energy_j
    expected = 2 * 2 * LINK.message_energy(4 * 4 * 4, 1).high
    assert energy.high == pytest.approx(expected)
