"""Channel pruning: masked channels are no longer sent, and nothing else changes."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec as P

import snap_jax as snap
from snap_jax.boundary.boundary import Boundary
from snap_jax.boundary.channel_pruning import idle_channels, mask_channels, most_spikes, prune
from snap_jax.boundary.transforms import LearnedTransform
from snap_jax.parallel.mesh import auto_mesh
from snap_jax.traffic.hlo import compiled_traffic


def masked(boundary, channels):
    mask_channels(boundary, channels)
    return boundary


def sample(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


def two_boundaries():
    boundaries = [Boundary(snap.Codec(snap.Count(7, 0.4)), 8, transform=LearnedTransform(6)) for _ in range(2)]
    for i, boundary in enumerate(boundaries):
        boundary.log_threshold[...] += jnp.where(jnp.arange(6) >= 4, 6.0, 0.1 * i)  # the last two never fire
    return boundaries


def test_pruned_channels_and_counts_are_not_sent_and_nothing_else_changes():
    boundaries, x = two_boundaries(), sample(64, 8)
    sent = [boundary.prepare(x) for boundary in boundaries]
    before = [boundary(x) for boundary in boundaries]
    idle, limit = idle_channels(boundaries, sent, max_rate=0.0), most_spikes(boundaries, sent)
    payload = boundaries[0].codec.payload_bytes((64, 6))
    assert idle == (4, 5)
    report = prune([masked(boundary, idle) for boundary in boundaries], limit=limit)
    assert report.channels == (6, 4)
    assert report.limit == (7, limit)
    for boundary, expected in zip(boundaries, before, strict=True):
        np.testing.assert_array_equal(boundary(x), expected)
    smaller = boundaries[0].codec.payload_bytes((64, boundaries[0].channels))
    assert smaller <= payload * 4 / 6 + 1


def test_pruned_channels_are_gone_from_the_compiled_program():
    def moved(boundary):
        run = lambda x: boundary.ppermute(x, "stage", [(0, 1), (1, 0)])
        fn = jax.jit(jax.shard_map(run, mesh=auto_mesh({"stage": 2}), in_specs=P("stage"), out_specs=P("stage")))
        x = sample(64, 8)
        return fn(x), compiled_traffic(fn.lower(x).compile(), auto_mesh({"stage": 2})).sent_bytes

    boundary = two_boundaries()[0]
    before, many = moved(masked(boundary, [1, 5]))
    prune([boundary])
    left, few = moved(boundary)
    np.testing.assert_array_equal(before, left)
    assert (many, few) == (2 * (32 * 6 * 4 // 8 + 1), 2 * (32 * 4 * 4 // 8 + 1))  # 15 levels in 4 bits, and the header


def test_pruning_twice_leaves_what_both_left():
    boundary, x = two_boundaries()[0], sample(64, 8)
    for masked_now, left in (([5], 5), ([0], 4)):  # channel 0 of those that are left
        before = masked(boundary, masked_now)(x)
        assert prune([boundary]).channels == (left + 1, left)
        np.testing.assert_array_equal(boundary(x), before)
    assert boundary.log_threshold.shape == (4,)
    assert boundary.share == 4 / 8
