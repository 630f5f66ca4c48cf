"""How exact sums travel: on the wire of the spikes, axis by axis."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import PartitionSpec as P

import snap_jax as snap
from snap_jax.collectives.sums import wire_of_sums
from snap_jax.parallel.mesh import auto_mesh
from snap_jax.traffic.jaxpr import collective_traffic
from tests.support.messages import on_mesh, varying
from tests.support.programs import sample

RANS = snap.Rans(ratio=2.0)


def entropy(values):
    """Of the values, in bits each."""
    shares = np.unique(values, return_counts=True)[1] / np.size(values)
    return -np.sum(shares * np.log2(shares))


def bits(wire, rows, symbols):
    """Per element, of the size that the largest of `rows` needs, and the header."""
    rungs = jax.jit(jax.vmap(lambda row: wire.rung(row, symbols)))(rows)
    return 8 * (wire.sizes(rows.shape[1], symbols)[int(rungs.max())] + 1) / rows.shape[1]


def test_sums_of_1024_devices_take_about_their_entropy():
    """2^20 ternary elements per device, a tenth fires; 16 of the parts of 1024 elements, and 4 of their sums."""
    rng, devices, rate, part = np.random.default_rng(0), 1024, 0.1, 1024
    spikes = rng.choice([-1, 0, 1], (16, part), p=[rate / 2, 1 - rate, rate / 2]).astype(np.int8)
    ups = rng.binomial(devices, rate / 2, (4, part))
    sums = (ups - rng.binomial(devices - ups, rate / 2 / (1 - rate / 2))).astype(np.int16)
    symbols = range(-devices, devices + 1)
    sent = bits(snap.Rans(), jnp.asarray(spikes), range(-1, 2))
    sent += bits(wire_of_sums(snap.Rans(), part, symbols), jnp.asarray(sums), symbols)
    assert entropy(spikes) + entropy(sums) < sent < 1.2 * (entropy(spikes) + entropy(sums))
    assert sent < 7 < 2 + 12  # bits of Packed


@pytest.mark.parametrize("devices", [1, 2, 8, 100, 1024, 4096])
@pytest.mark.parametrize("wire", [snap.Packed(radix=True), snap.Bitmap(), snap.Bitplanes(), snap.Ladder(), RANS])
def test_sums_never_take_more_than_packed(wire, devices):
    symbols = range(-3 * devices, 3 * devices + 1)
    chosen = wire_of_sums(wire, 4096, symbols)
    assert chosen.sizes(4096, symbols)[-1] <= snap.Packed().sizes(4096, symbols)[-1]
    if wire in (snap.Ladder(), RANS):
        assert len(chosen.sizes(4096, symbols)) > 1


@pytest.mark.parametrize("limit", [1, 100])
def test_sums_on_an_entropy_coding_wire_are_exact(limit):
    """Sums of 4 devices in 9 levels, and in 801: digits. Few fire, so both halves send less than the largest size."""
    codec, x = snap.Codec(snap.Count(limit, 1.0), RANS), jnp.round(limit * sample((4, 40, 100)) / 4)

    def program(x):
        return varying((snap.psum(x, "x", codec=codec), lax.psum(codec.quantize(x), "x")))

    coded, plain = jax.jit(on_mesh(program))(x)
    np.testing.assert_array_equal(coded, plain)


def test_a_slow_axis_carries_the_part_of_one_device():
    """2 pods of 4 devices, 800 ternary elements: parts of 200 in 2 bits, of 100 sums in 4, then sums in 5, inside too.

    Over both axes at once, 8 devices would send each of the 4 in the other pod 100 elements in 2 bits and in 5.
    """
    codec = snap.Codec(snap.Ternary(0.5))
    mesh = auto_mesh({"pod": 2, "device": 4})
    total = lambda x: snap.psum(x, ("pod", "device"), codec=codec)
    run = jax.shard_map(total, mesh=mesh, in_specs=P(("pod", "device")), out_specs=P())
    header = 1
    assert [(t.op, t.axes, t.bytes) for t in collective_traffic(run)(sample((8, 800)))] == [
        ("all_to_all", ("device",), 4 * (200 * 2 // 8 + header)),
        ("all_to_all", ("pod",), 2 * (100 * 4 // 8 + header)),
        ("all_gather", ("pod",), 100 * 4 // 8 + -(-100 * 1 // 8) + header),
        ("all_gather", ("device",), 200 * 4 // 8 + 200 * 1 // 8 + header),
    ]


def test_the_part_of_a_device_does_not_depend_on_its_pod():
    """Thresholds that differ, and a NaN, on one device of eight, are seen by all."""
    mesh = auto_mesh({"pod": 2, "device": 4})
    first = lambda: (lax.axis_index("pod") + lax.axis_index("device")) == 0

    def program(x):
        own = snap.Codec(snap.Ternary(jnp.where(first(), 0.5, 0.6)))
        bad = jnp.where(first() & (jnp.arange(x.size) == 3), jnp.nan, x)
        psum = lambda x, codec: snap.psum(x, ("pod", "device"), codec=codec)
        return jnp.stack([psum(x, own), psum(bad, snap.Codec(snap.Ternary(0.5)))])

    run = jax.shard_map(program, mesh=mesh, in_specs=P(("pod", "device")), out_specs=P())
    assert np.isnan(jax.jit(run)(sample((8, 5)).reshape(-1))).all()


def test_a_cluster_of_spikes_does_not_decide_the_size_of_all_parts():
    """A quarter of the elements fires, all neighbors: a quarter of every part of 4, for which events have room."""
    codec = snap.Codec(snap.Count(3, 1.0), snap.Ladder((snap.Events(0.3), snap.Packed())))
    x = jnp.broadcast_to(jnp.arange(4096) < 1024, (4, 4096)).astype(jnp.float32)

    def program(x):
        y, sent = snap.psum(x, "x", codec=codec, return_sent=True)
        return varying((y, sent.rung))

    y, rung = jax.jit(on_mesh(program))(x)
    np.testing.assert_array_equal(y[:, 0], 4 * x)
    assert rung.tolist() == [0] * 4
