"""What crosses does not outgrow the mesh: bytes on meshes of up to 1024 devices, which need not exist."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import AbstractMesh, AxisType
from jax.sharding import PartitionSpec as P

import snap_jax as snap
from snap_jax._compat import as_varying
from snap_jax.traffic.jaxpr import collective_traffic
from tests.support.programs import PAIRS, sample

SIZES = (8, 64, 1024)


def sent_per_device(function, devices, *shapes):
    """Bytes that one device sends in a run of `function`, on f32 arrays of these shapes."""
    mesh = AbstractMesh((devices,), ("x",), axis_types=(AxisType.Auto,))
    program = lambda *xs: jax.tree.map(lambda y: as_varying(y, ("x",)), function(*[x[0] for x in xs]))
    run = jax.shard_map(program, mesh=mesh, in_specs=P("x"), out_specs=P("x"))
    return collective_traffic(run)(*[jax.ShapeDtypeStruct((devices, *s), jnp.float32) for s in shapes]).sent_bytes / (
        devices
    )


@pytest.mark.parametrize("devices", SIZES)
@pytest.mark.parametrize("collective", ["all_to_all", "psum_scatter", "psum"])
def test_thresholds_per_channel_that_vary_are_sent_once(collective, devices):
    """16 x 4096 elements, channels scattered: beside what one threshold takes, 4 bytes per channel, or compared once.

    A comparison is a pmax of two numbers per channel, which sends each up to twice.
    """
    own = lambda shape: snap.Codec(snap.Ternary(jnp.full(shape, 0.5) + 0 * lax.axis_index("x")))
    of = lambda shape: sent_per_device(lambda x: PAIRS[collective].coded(x, "x", own(shape)), devices, (16, 4096))
    one = lambda x: PAIRS[collective].coded(x, "x", snap.Codec(snap.Ternary(0.5)))
    numbers = 4096 * (2 * 2 if collective == "psum" else 1)
    assert of((4096,)) - sent_per_device(one, devices, (16, 4096)) <= 4 * numbers
    assert of((4096,)) < 0.4 * sent_per_device(lambda x: PAIRS[collective].plain(x, "x"), devices, (16, 4096))


@pytest.mark.parametrize("shape", [(16,), (4, 1), (4, 16), (1, 16)], ids=str)
@pytest.mark.parametrize("collective", ["all_to_all", "psum_scatter"])
def test_a_part_of_the_thresholds_decodes_its_part(collective, shape):
    """Of every form that broadcasts against 4 x 16 elements, cut along the second dimension into 4, on 4 devices."""

    def program(x):
        threshold = sample(shape) ** 2 + 0.1 + lax.axis_index("x")
        codec = snap.Codec(snap.Count(3, threshold))
        return PAIRS[collective].coded(x, "x", codec), PAIRS[collective].plain(codec.quantize(x), "x")

    mesh = jax.make_mesh((4,), ("x",), axis_types=(AxisType.Auto,))
    coded, plain = jax.jit(jax.shard_map(program, mesh=mesh, in_specs=P("x"), out_specs=P("x")))(4 * sample((16, 16)))
    np.testing.assert_allclose(coded, plain, atol=1e-6)


def test_untiled_parts_take_theirs():
    def program(x):
        codec = snap.Codec(snap.Count(3, 0.1 + sample((4, 1)) ** 2 + lax.axis_index("x")))
        scatter = lambda lib, y, **k: lib.psum_scatter(y, "x", scatter_dimension=0, **k)
        return scatter(snap, x, codec=codec), scatter(lax, codec.quantize(x))

    mesh = jax.make_mesh((4,), ("x",), axis_types=(AxisType.Auto,))
    coded, plain = jax.jit(jax.shard_map(program, mesh=mesh, in_specs=P("x"), out_specs=P("x")))(4 * sample((16, 16)))
    np.testing.assert_allclose(coded, plain, atol=1e-6)
