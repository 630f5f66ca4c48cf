"""The size of a program does not depend on the number of devices, which need not exist."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AbstractMesh, AxisType
from jax.sharding import PartitionSpec as P

import snap_jax as snap
from snap_jax._compat import as_varying
from tests.support.programs import PAIRS

ELEMENTS = 512  # of a part: they pack into 192 bytes, four sizes
WIRES = (snap.Packed(), snap.Ladder(), snap.Rans())


def equations(collective, devices, codec):
    """How many equations the program has, those of its branches and loops included."""
    shape = (ELEMENTS, devices) if collective in ("all_to_all", "psum_scatter", "psum") else (8, ELEMENTS)
    mesh = AbstractMesh((devices,), ("x",), axis_types=(AxisType.Auto,))
    run = jax.shard_map(
        lambda x: as_varying(PAIRS[collective].coded(x[0], "x", codec), ("x",)),
        mesh=mesh,
        in_specs=P("x"),
        out_specs=P("x"),
    )
    return _count(jax.make_jaxpr(run)(jax.ShapeDtypeStruct((devices, *shape), jnp.float32)))


def _count(jaxpr):
    jaxpr = getattr(jaxpr, "jaxpr", jaxpr)
    held = [value for eqn in jaxpr.eqns for value in eqn.params.values()]
    flat = [one for value in held for one in (value if isinstance(value, tuple | list) else (value,))]
    inner = [one for one in flat if isinstance(one, jax.extend.core.Jaxpr | jax.extend.core.ClosedJaxpr)]
    return len(jaxpr.eqns) + sum(map(_count, inner))


@pytest.mark.parametrize("wire", WIRES, ids=lambda wire: type(wire).__name__)
@pytest.mark.parametrize("collective", ["all_gather", "all_to_all", "ppermute", "psum_scatter", "psum"])
def test_equations_do_not_grow_with_the_number_of_devices(collective, wire):
    """Parts are of one size. Longer tensors are reduced in one level more, and wider sums have another field."""
    few, some, many = (equations(collective, devices, snap.Codec(snap.Count(3), wire)) for devices in (8, 64, 1024))
    assert few <= some <= many <= (1.5 if collective == "psum" else 1.15) * few
