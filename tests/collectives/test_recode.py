"""Gradients of sums that are coded again."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import PartitionSpec as P

import snap_jax as snap
from snap_jax._compat import as_varying
from snap_jax.parallel.mesh import auto_mesh
from snap_jax.traffic.jaxpr import collective_traffic
from tests.support.messages import on_mesh, varying
from tests.support.programs import sample

MESHES = {"x": ({"x": 4}, "x"), "y, x": ({"y": 2, "x": 2}, ("y", "x"))}
FIRST = snap.Codec(snap.Count(3, 0.5))


def gradients(total, thresholds, mesh, check_vma, spread):
    """(value, gradients of x and the threshold of the sum) of both, 4 devices; 5 x 7 elements each."""
    sizes, axis = MESHES[mesh]

    def loss(x, threshold):
        if spread:
            threshold = as_varying(threshold, tuple(sizes))
        y = total(x[0], axis, threshold)
        weight = jnp.cos(jnp.arange(y.size, dtype=jnp.float32)).reshape(y.shape)
        here = jnp.sum(jnp.tanh(y / 4) * weight * (1 + lax.axis_index(axis)))
        return (lax.psum(here, axis) / (1 if check_vma else 4))[None], as_varying(y, tuple(sizes))[None]

    specs = {"in_specs": (P(tuple(sizes)), P()), "out_specs": (P(), P(tuple(sizes)))}
    run = jax.shard_map(loss, mesh=auto_mesh(sizes), check_vma=check_vma, **specs)
    whole = lambda x, t: (lambda found: (found[0][0], found[1]))(run(x, t))
    (_, y), (dx, dt) = jax.jit(jax.value_and_grad(whole, argnums=(0, 1), has_aux=True))(sample((4, 5, 7)), thresholds)
    return y, dx, dt


@pytest.mark.parametrize(
    ("mesh", "check_vma", "spread"), [("x", True, False), ("y, x", True, True), ("x", False, False)]
)
@pytest.mark.parametrize("channels", [(), (7,)], ids=["one", "per channel"])
@pytest.mark.parametrize("name", ["psum", "pmean"])
def test_the_threshold_of_a_sum_codec_gets_the_gradient_of_quantize(name, channels, mesh, check_vma, spread):
    """And x that of the exact sum: `S + quantize(stop(S)) - stop(S)`. Sums are halves, which floats add exactly."""
    recoder = lambda t: snap.Codec(snap.Latency(8, t))
    over = 4 if name == "pmean" else 1

    def oracle(x, axis, threshold):
        total = lax.psum(FIRST.quantize(x), axis)
        fixed = lax.stop_gradient(total)
        return (total - fixed + recoder(threshold).quantize(fixed)) / over

    coded = lambda x, axis, t: getattr(snap, name)(x, axis, codec=FIRST, sum_codec=recoder(t))
    thresholds = (
        jnp.full(channels, 3.0) + jnp.arange(7.0)[: channels[0] if channels else None].reshape(channels or -1)[0]
    )
    found, expected = (gradients(f, thresholds, mesh, check_vma, spread) for f in (coded, oracle))
    assert np.abs(expected[2]).max() > 0.1
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_the_gradient_of_a_sum_codec_sends_one_number_per_threshold():
    """A float sum of the threshold's gradient is all that travels backward; without that gradient nothing does."""

    def program(x, threshold, which):
        loss = lambda x, t: jnp.sum(snap.psum(x, "x", codec=FIRST, sum_codec=snap.Codec(snap.Count(5, t))) ** 2)
        return varying(jax.grad(loss, argnums=which)(x, threshold))

    for which, backward in ((0, []), (1, [("psum", "float32", 4)])):
        run = jax.shard_map(
            lambda x, t, which=which: program(x, t, which),
            mesh=auto_mesh({"x": 4}),
            in_specs=(P("x"), P()),
            out_specs=P("x"),
        )
        traffic = collective_traffic(run)(sample((4, 100)), jnp.float32(1.0))
        assert [(t.op, t.dtype, t.bytes) for t in traffic if t.dtype != "uint8"] == backward


def test_forward_mode_through_a_sum_codec():
    def program(x):
        f = lambda t: snap.psum(x, "x", codec=FIRST, sum_codec=snap.Codec(snap.Count(5, t)))
        g = lambda t: snap.Codec(snap.Count(5, t)).quantize(lax.psum(FIRST.quantize(x), "x"))
        return varying([jax.jvp(h, (jnp.float32(1.5),), (jnp.float32(1.0),))[1] for h in (f, g)])

    np.testing.assert_allclose(*jax.jit(on_mesh(program))(sample((4, 9))), atol=1e-6)
