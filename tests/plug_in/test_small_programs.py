"""Small programs that users wrote and that gave wrong numbers, or an error that said little."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import snap_jax as snap


def test_pmap_decodes_with_the_threshold_of_the_sender():
    thresholds, x = jnp.array([1.0, 10.0]), jnp.array([[1.0, 1.0], [10.0, 10.0]])
    send = lambda t, x: snap.ppermute(x, "i", [(0, 1), (1, 0)], codec=snap.Codec(snap.Ternary(t)))
    # Device 0 receives the spikes of device 1, in units of 10; device 1 those of device 0, in units of 1.
    np.testing.assert_array_equal(jax.pmap(send, axis_name="i")(thresholds, x), [[10.0, 10.0], [1.0, 1.0]])


@pytest.mark.parametrize("threshold", [0.5, np.float32(0.5), jnp.float32(0.5), jnp.full(3, 0.5)], ids=repr)
def test_a_boundary_starts_at_thresholds_of_any_kind(threshold):
    boundary = snap.Boundary(snap.Codec(snap.Ternary(threshold)), 3)
    again = snap.Boundary(boundary.codec, 3)
    for b in (boundary, again):
        np.testing.assert_allclose(b(jnp.array([0.7, -0.1, -2.0])), [0.5, 0.0, -0.5], rtol=1e-6)


@pytest.mark.parametrize("codec", [None, "ternary"])
def test_an_axis_that_is_unknown_is_named_as_lax_does(codec):
    with pytest.raises(NameError, match="nowhere"):
        jax.jit(lambda x: snap.psum(x, "nowhere", codec=codec))(jnp.ones(4))


def test_collective_traffic_says_where_it_cannot_see():
    """The compiler adds the sum; the program as written has none."""
    mesh = jax.make_mesh((2,), ("x",), axis_types=(AxisType.Auto,))
    total, x = jax.jit(lambda x: x.sum(0)), jax.device_put(jnp.ones((2, 4)), NamedSharding(mesh, P("x")))
    with pytest.warns(UserWarning, match=r"no shard_map.*compiled_traffic.*snap\.island"):
        assert not snap.collective_traffic(total)(x)
    (added,) = snap.compiled_traffic(total.lower(x).compile(), mesh)
    assert (added.op, added.axes, added.bytes) == ("psum", ("x",), 4 * 4)
    assert not snap.collective_traffic(total)(jnp.ones((2, 4)))  # nothing is divided, no warning
