"""Telemetry: it adds up, inside jit, over parts, time steps and devices, and never wraps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax
from jax.sharding import PartitionSpec as P

import snap_jax as snap
from snap_jax.boundary.counters import counted, counter
from snap_jax.boundary.telemetry import Telemetry, observe
from snap_jax.parallel.mesh import auto_mesh

CODES = {
    "ternary": snap.Codec(snap.Ternary(0.5)),
    "count:3": snap.Codec(snap.Count(3, 0.4)),
    "unsigned": snap.Codec(snap.Rate(4, signed=False)),
    "int4": snap.Codec(snap.Int(bits=4, threshold=0.3)),
    "int8": snap.Codec(snap.Int(bits=8)),
}


def sample(*shape):
    return jnp.asarray(np.random.default_rng(0).standard_normal(shape), jnp.float32)


@pytest.mark.parametrize("name", CODES)
def test_counts_are_those_of_the_spikes(name):
    """Against numpy's histogram; entropy by its definition, from symbols that occurred; sizes that divide nothing."""
    codec = CODES[name]
    seen = jax.jit(lambda x: (observe(codec, x), codec.spikes(x)))
    for shape in ((13, 37), (), (0, 4), (20_000,)):
        x = sample(*shape)
        telemetry, spikes = seen(x)
        spikes = np.asarray(spikes).reshape(-1).astype(int)
        symbols = codec.encoding.symbols
        np.testing.assert_array_equal(telemetry.counts, np.bincount(spikes - symbols.start, minlength=len(symbols)))
        assert telemetry.elements == x.size
        assert telemetry.sent_bytes == codec.payload_bytes(shape)
        if x.size:
            p = np.unique(spikes, return_counts=True)[1] / x.size
            np.testing.assert_allclose(telemetry.entropy_bits, -np.sum(p * np.log2(p)), rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(telemetry.firing_rate, np.mean(spikes != 0), rtol=1e-6)
            assert float(telemetry.bits_per_element) == pytest.approx(8 * codec.payload_bytes(shape) / x.size)


def test_it_adds_up():
    """Parts, steps of a scan, and what the host adds."""
    codec, x = CODES["count:3"], sample(6, 5, 7)
    whole = observe(codec, x)
    parts = jax.vmap(lambda part: observe(codec, part))(x)
    _, steps = lax.scan(lambda carry, part: (carry, observe(codec, part)), (), x)
    for many in (parts, steps):
        np.testing.assert_array_equal(many.total().counts, whole.counts)
        np.testing.assert_array_equal((many[:2].total() + many[2:].total()).counts, whole.counts)
        assert many.total().elements == whole.elements
        assert many.firing_rate.shape == many.entropy_bits.shape == (6,)
        np.testing.assert_allclose(many.firing_rate.mean(), whole.firing_rate, rtol=1e-6)
    host = jax.device_get(whole)
    assert (host + host).elements == 2 * x.size
    np.testing.assert_array_equal((host + host).counts, 2 * whole.counts)


@pytest.mark.parametrize("start", [0, 1, 4095, 4096, 2**24 - 1, 2**31 - 1, 2**32 + 5, 2**40 + 4097])
def test_counters_hold_any_count(start):
    assert counted(counter(start)) == counted(np.asarray(counter(start))) == start
    if start < 2**31:
        np.testing.assert_array_equal(jax.jit(counter)(jnp.int32(start)), counter(start))


def test_counters_do_not_wrap():
    """A million tokens of 4096 features, in 256 steps on each of 2 devices: 2^41 elements, and one more."""
    each = Telemetry.of(jnp.array([2**30, 2**31 - 1, 3], jnp.int32), 2**32, 2**31 + 7, range(-1, 2))

    def run(seen):
        add = lambda total, _: (jax.tree.map(jnp.add, total, seen), None)
        zero = jax.tree.map(lambda a: lax.pcast(jnp.zeros_like(a), "x", to="varying"), seen)
        return lax.psum(lax.scan(add, zero, jnp.arange(256))[0], "x")

    total = jax.jit(jax.shard_map(run, mesh=auto_mesh({"x": 2}), in_specs=P(), out_specs=P()))(each)
    exact = total + Telemetry.of(jnp.zeros(3, jnp.int32), 1, 0, range(-1, 2))
    assert exact.elements == 512 * 2**32 + 1
    assert exact.sent_bytes == 512 * (2**31 + 7)
    assert exact.counts.tolist() == [512 * 2**30, 512 * (2**31 - 1), 512 * 3]
    share = 2**31 / 2**32  # of the symbol 0, to 3e-10
    assert float(total.firing_rate) == pytest.approx(1 - share, rel=1e-6)
    assert float(total.bits_per_element) == pytest.approx(8 * (2**31 + 7) / 2**32, rel=1e-6)


def test_floats_have_bytes_but_no_spikes():
    x = sample(8, 4).astype(jnp.bfloat16)
    for codec, nbytes in ((None, 64), (snap.Codec(snap.Cast("bfloat16")), 65)):
        seen = observe(codec, x)
        assert (seen.sent_bytes, seen.elements, seen.counts.shape) == (nbytes, 32, (0,))
        assert seen.firing_rate is None
        assert seen.entropy_bits is None
        assert float(seen.bits_per_element) == nbytes / 4


def test_a_nan_hides_in_no_count():
    """It has no spike, so what is counted for it is some symbol; the tensor still has all its elements."""
    seen = observe(CODES["ternary"], jnp.array([jnp.nan, jnp.inf, 1.0, 0.0]))
    assert seen.elements == 4
    assert seen.counts.sum() <= 4


LADDER = snap.Codec(snap.Ternary(1.0), snap.Ladder((snap.Events(0.01), snap.Bitmap(0.2), snap.Packed())))


def test_bytes_are_those_of_the_size_that_all_devices_take():
    """Device 0 fires 1 in 1000, device 1 150: sizes of 12 and 150 bytes; both send the larger, and a header."""
    x = jnp.zeros((2, 1000)).at[0, 0].set(1.0).at[1, :150].set(1.0)

    def run(x):
        def loss(x):
            y, sent = snap.all_gather(x, "x", codec=LADDER, return_sent=True)
            return y.sum(), (observe(LADDER, x), observe(LADDER, sent))

        gradient, seen = jax.grad(loss, has_aux=True)(x[0])
        summed = lax.psum(seen[1], "x")
        return gradient[None], jax.tree.map(lambda a: a[None], seen), summed

    mapped = jax.shard_map(run, mesh=auto_mesh({"x": 2}), in_specs=P("x"), out_specs=(P("x"), P("x"), P()))
    gradient, (alone, agreed), summed = jax.jit(mapped)(x)
    np.testing.assert_array_equal(gradient, 2)  # none of it comes from watching
    np.testing.assert_array_equal(alone.sent_bytes, [13, 151])
    np.testing.assert_array_equal(agreed.sent_bytes, [151, 151])
    np.testing.assert_array_equal(agreed.counts, [[0, 999, 1], [0, 850, 150]])
    assert (summed.elements, summed.sent_bytes) == (2000, 302)
    np.testing.assert_allclose(agreed.firing_rate, [0.001, 0.15], rtol=1e-4)
    assert float(summed.firing_rate) == pytest.approx(151 / 2000)


def test_what_was_sent_is_not_coded_or_agreed_on_again():
    """An entropy coder is a scan, an agreement a pmax: with telemetry there are as many as without."""
    codec = snap.Codec(snap.Count(3), snap.Rans())

    def run(watch, x):
        y, sent = snap.ppermute(x, "x", [(0, 1)], codec=codec, return_sent=True)
        return y, jax.tree.map(lambda a: a[None], observe(codec, sent)) if watch else ()

    def program(watch):
        mapped = jax.shard_map(lambda x: run(watch, x), mesh=auto_mesh({"x": 2}), in_specs=P("x"), out_specs=P("x"))
        return str(jax.make_jaxpr(mapped)(sample(2048, 4)))

    plain, watched = program(False), program(True)
    for name in ("scan[", "pmax", "ppermute", "round"):
        assert watched.count(name) == plain.count(name)
    assert plain.count("pmax") == 1


class Watched(nnx.Module):
    """A model of someone else, with a boundary in it."""

    def __init__(self):
        self.boundary = snap.Boundary(snap.Codec(snap.Ternary(1.0)), features=4)

    def __call__(self, x):
        y, sent = self.boundary.all_gather(x, "x", return_sent=True)
        self.sow(nnx.Intermediate, "telemetry", self.boundary.observe(sent))
        return y


def test_it_leaves_a_module_by_sow():
    def run(model, x):
        y, seen = nnx.capture(model, nnx.Intermediate)(x)
        (telemetry,) = jax.tree.leaves(nnx.to_pure_dict(seen), is_leaf=lambda t: isinstance(t, Telemetry))
        return y, jax.tree.map(lambda a: a[None], telemetry)

    mapped = jax.shard_map(run, mesh=auto_mesh({"x": 2}), in_specs=(P(), P("x")), out_specs=P("x"))
    _, seen = jax.jit(mapped)(Watched(), jnp.ones((4, 4)).at[0].set(0.0))
    np.testing.assert_array_equal(seen.counts, [[0, 4, 4], [0, 0, 8]])
