"""Where types do not say what varies: check_vma=False and vmap(axis_name=)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import snap_jax as snap
from tests.support.messages import LADDER, on_mesh, varying
from tests.support.programs import PAIRS, sample


def threshold_of_its_own(collective, **keywords):
    """A threshold per device, the sum of nothing: the error against `lax` on 4 devices."""

    def program(x):
        codec = snap.Codec(snap.Ternary(1.0 + lax.axis_index("x")))
        coded, plain = PAIRS[collective].coded(x, "x", codec), PAIRS[collective].plain(codec.quantize(x), "x")
        return varying((coded, plain))

    return jax.jit(on_mesh(program, **keywords))(sample((16, 4)))


@pytest.mark.parametrize("check_vma", [True, False])
@pytest.mark.parametrize("collective", ["all_gather", "ppermute", "all_to_all", "psum_scatter"])
def test_a_receiver_knows_the_threshold_of_the_sender(collective, check_vma):
    coded, plain = threshold_of_its_own(collective, check_vma=check_vma)
    np.testing.assert_allclose(coded, plain, atol=1e-6)


@pytest.mark.parametrize("check_vma", [True, False])
def test_a_sum_of_different_thresholds_is_nan(check_vma):
    coded, _ = threshold_of_its_own("psum", check_vma=check_vma)
    assert np.isnan(coded).all()


@pytest.mark.parametrize("collective", ["all_gather", "ppermute", "psum"])
def test_a_constant_threshold_costs_nothing_without_types(collective):
    """And gradients are those of lax, in `check_vma=False` too."""
    codec, x = snap.Codec(snap.Count(3, 0.5)), sample((8, 8))
    bytes_of = lambda **k: (
        snap.collective_traffic(on_mesh(lambda x: varying(PAIRS[collective].coded(x, "x", codec)), **k))(x).sent_bytes
    )
    assert bytes_of(check_vma=False) == bytes_of()
    loss = lambda f: lambda x: jnp.sum(jnp.sin(f(x)) * (1 + lax.axis_index("x")))
    pair = PAIRS[collective]
    coded, plain = loss(lambda x: pair.coded(x, "x", codec)), loss(lambda x: pair.plain(codec.quantize(x), "x"))
    found, expected = (jax.jit(on_mesh(jax.grad(f), check_vma=False))(x) for f in (coded, plain))
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("check_vma", [True, False])
def test_a_threshold_of_an_integer_dtype_is_a_number(check_vma):
    def program(x):
        codec = snap.Codec(snap.Ternary(1 + lax.axis_index("x")))
        return varying((snap.all_gather(x, "x", codec=codec), lax.all_gather(codec.quantize(x), "x")))

    coded, plain = jax.jit(on_mesh(program, check_vma=check_vma))(4 * sample((4, 8)))
    np.testing.assert_array_equal(coded, plain)
    assert set(np.unique(np.abs(coded))) == {0.0, 1.0, 2.0, 3.0, 4.0}


@pytest.mark.parametrize("wire", [snap.Packed(), LADDER], ids=["packed", "ladder"])
@pytest.mark.parametrize("collective", ["all_gather", "all_to_all", "psum_scatter", "psum", "pmean"])
def test_vmap_with_an_axis_name_is_a_device_axis(collective, wire):
    codec, x = snap.Codec(snap.Count(3, 0.5), wire), sample((4, 8, 16))
    coded = jax.jit(jax.vmap(lambda x: PAIRS[collective].coded(x, "x", codec), axis_name="x"))(x)
    plain = jax.vmap(lambda x: PAIRS[collective].plain(codec.quantize(x), "x"), axis_name="x")(x)
    np.testing.assert_allclose(coded, plain, atol=1e-6)


def test_vmap_along_a_ring():
    codec, x, ring = snap.codec("count:3"), sample((4, 8)), [(0, 1), (1, 2), (2, 3), (3, 0)]
    coded = jax.vmap(lambda x: snap.ppermute(x, "x", ring, codec=codec), axis_name="x")(x)
    np.testing.assert_array_equal(coded, jnp.roll(jax.vmap(codec.quantize)(x), 1, axis=0))
