"""Boundaries: every array of an encoding is learned, nothing that is static holds a number, what cannot be raises."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax.sharding import PartitionSpec as P

import snap_jax as snap
from snap_jax.boundary import Threshold
from snap_jax.boundary.boundary import Boundary
from snap_jax.boundary.channel_pruning import mask_channels
from snap_jax.boundary.transforms import PrunedChannels
from snap_jax.encodings import Shared, in_thresholds, learnable
from snap_jax.encodings.surrogates import StraightThrough, staircase
from snap_jax.parallel.mesh import auto_mesh


@learnable("threshold", "center")
@dataclasses.dataclass(frozen=True)
class Centered(Shared):
    """Spikes around a learned center, which may be negative."""

    threshold: Any = 1.0
    center: Any = 0.0

    @property
    def symbols(self):
        return range(-3, 4)

    def encode(self, x):
        return staircase(in_thresholds(x - self.center, self.threshold), 3, 0.5, True, StraightThrough()), ()

    def decode(self, values, side=()):
        return values * self.threshold + self.center


def sample(*shape):
    return jnp.asarray(np.random.default_rng(0).standard_normal(shape), jnp.float32)


def test_every_array_of_an_encoding_is_a_parameter():
    """One per channel; the positive one by its logarithm, the other as it is; each with its own gradient."""
    boundary = Boundary(snap.Codec(Centered(0.5, center=-0.25)), 4)
    state = nnx.state(boundary, nnx.Param)
    assert {path[0]: leaf.shape for path, leaf in nnx.to_flat_state(state)} == {
        "log_threshold": (4,),
        "learned_center": (4,),
    }
    x = sample(64, 4)
    np.testing.assert_array_equal(boundary(x), Centered(jnp.full(4, 0.5), jnp.full(4, -0.25)).quantize(x))

    def error(t, center):
        return jnp.square(Centered(t, center).quantize(x) - x).mean()

    by_t, by_center = jax.grad(error, argnums=(0, 1))(jnp.full(4, 0.5), jnp.full(4, -0.25))
    graph, params = nnx.split(boundary)
    gradient = jax.grad(lambda p: jnp.square(nnx.merge(graph, p)(x) - x).mean())(params)
    np.testing.assert_allclose(gradient["log_threshold"][...], 0.5 * by_t, rtol=1e-4)  # d/dlog t = t d/dt
    np.testing.assert_allclose(gradient["learned_center"][...], by_center, rtol=1e-4)


def test_learning_both_lowers_the_error():
    boundary, x = Boundary(snap.Codec(Centered(0.2)), 4), 2.0 + 0.3 * sample(256, 4)
    optimizer = nnx.Optimizer(boundary, optax.adam(0.05), wrt=nnx.Param)
    first = float(jnp.square(boundary(x) - x).mean())

    @nnx.jit
    def step(boundary, optimizer):
        optimizer.update(boundary, nnx.grad(lambda b: jnp.square(b(x) - x).mean())(boundary))

    for _ in range(100):
        step(boundary, optimizer)
    assert float(jnp.square(boundary(x) - x).mean()) < 0.02 * first
    assert float(boundary.learned_center[...].mean()) > 1.0


@pytest.mark.parametrize("threshold", [0.5, np.float32(0.5), jnp.full(3, 0.5), np.array([0.5, 0.5, 0.5])])
def test_thresholds_may_start_as_numbers_or_arrays(threshold):
    boundary, x = Boundary(snap.Codec(snap.Ternary(threshold)), 3), sample(5, 3)
    np.testing.assert_allclose(boundary(x), snap.Ternary(0.5).quantize(x), rtol=1e-6)


def test_boundaries_that_start_elsewhere_share_a_program():
    traces = []

    @nnx.jit
    def run(boundary, x):
        traces.append(1)
        return boundary(x)

    for threshold in (0.5, 0.7, jnp.array([1.0, 2.0, 3.0])):
        run(Boundary(snap.Codec(snap.Ternary(threshold)), 3), jnp.ones((2, 3)))
    assert len(traces) == 1
    run(Boundary(snap.Codec(snap.Count(2)), 3), jnp.ones((2, 3)))
    assert len(traces) == 2


@pytest.mark.parametrize("threshold", [0.25, jnp.array([0.25, 0.5, 1.0])])
def test_a_grad_codec_may_hold_an_array_that_is_not_learned(threshold):
    back = snap.Codec(snap.Ternary(threshold))
    boundary = Boundary(None, 3, grad_codec=back)
    assert not jax.tree.leaves(nnx.state(boundary, nnx.Param))
    np.testing.assert_array_equal(boundary.grad_codec.encoding.threshold, threshold)
    x, cotangent = sample(4, 3), sample(4, 3)
    swap = lambda x: boundary.ppermute(x, "x", [(0, 1), (1, 0)])
    mapped = jax.shard_map(swap, mesh=auto_mesh({"x": 2}), in_specs=P("x"), out_specs=P("x"))
    (found,) = jax.jit(lambda x, ct: jax.vjp(mapped, x)[1](ct))(x, cotangent)
    parts = [back.quantize(part) for part in jnp.split(cotangent, 2)]
    np.testing.assert_array_equal(found, jnp.concatenate(parts[::-1]))
    boundary.set_grad_codec(None)
    assert boundary.grad_codec is None


def test_weight_decay_may_leave_thresholds_out():
    boundary = Boundary("count:3", 4, transform=snap.LearnedTransform(2))
    decayed = nnx.state(boundary, nnx.All(nnx.Param, nnx.Not(Threshold)))
    assert len(jax.tree.leaves(decayed)) == 4  # mean and basis of both sides
    assert isinstance(boundary.log_threshold, Threshold)


def test_words_name_a_codec():
    assert Boundary("count:3+rans", 8).codec.wire == snap.Rans()
    assert Boundary(None, 8, grad_codec="int8").grad_codec == snap.codec("int8")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Boundary("count:3", 4)(jnp.ones((2, 3))), r"got shape \(2, 3\), this boundary is for 4 features"),
        (lambda: Boundary(snap.Codec(snap.Ternary(-1.0)), 4), "threshold=-1.0 is not positive"),
        (lambda: Boundary(snap.Codec(snap.Ternary(jnp.array([1.0, 0.0]))), 2), "threshold=0.0 is not positive"),
        (lambda: Boundary(snap.Codec(snap.Ternary(jnp.ones(3))), 4), r"threshold of shape \(3,\) for 4 channels"),
        (
            lambda: Boundary(snap.Codec(snap.Ternary(jnp.ones(4))), 4, transform=snap.LearnedTransform(2)),
            r"threshold of shape \(4,\) for 2 channels that are sent: use one number, or an array of 2",
        ),
        (lambda: Boundary("count:3", 0), "Boundary: features=0: use the size of the last axis, 1 or more"),
        (lambda: Boundary(snap.Codec(snap.Ternary(jnp.inf)), 4), "threshold=inf is not positive and finite"),
        (lambda: Boundary(snap.Codec(snap.Ternary(jnp.array([1.0, jnp.nan]))), 2), "threshold=nan is not positive and"),
        (
            lambda: Boundary("count:3", 4).prune([0, 4]),
            r"Boundary.prune: channels \[0, 4\]: use different ones from 0 to 3",
        ),
        (lambda: Boundary("count:3", 4).prune([]), r"Boundary.prune: channels \[\]: use different ones"),
        (lambda: Boundary("count:3", 4).prune([1, 1]), r"Boundary.prune: channels \[1, 1\]: use different ones"),
        (lambda: mask_channels(Boundary("count:3", 4), [-1]), r"mask_channels: channels \[-1\]: use different ones"),
        (lambda: PrunedChannels(3, (3,)), r"PrunedChannels: channels \[3\]: use different ones from 0 to 2"),
        (lambda: Boundary(None, 4).set_wire(snap.Packed()), r"Boundary.set_wire: .* sends floats"),
        (lambda: Boundary(None, 4).lower_limit(1), r"Boundary.lower_limit: .* sends floats"),
        (lambda: Boundary("ternary", 4).lower_limit(1), "Ternary has no limit"),
        (lambda: Boundary("count:3", 4).lower_limit(5), "limit=5 does not lower"),
        (
            lambda: Boundary("count:3", 4, transform=snap.LearnedTransform(2)).psum(jnp.ones(4), "x"),
            r"Boundary.psum: applies no transforms: use ppermute",
        ),
    ],
)
def test_what_cannot_be_raises_and_says_so(make, message):
    with pytest.raises(snap.UsageError, match=message):
        make()


def test_limit_and_wire_change_in_place():
    boundary, x = Boundary(snap.Codec(snap.Count(7, 0.25)), 4), 0.5 * sample(64, 4)
    before = boundary.codec.encoding.threshold
    boundary.lower_limit(3)
    boundary.set_wire(snap.Bitplanes())
    np.testing.assert_array_equal(boundary.codec.encoding.threshold, before)
    assert boundary.codec.encoding.symbols == range(-3, 4)
    assert boundary.codec.wire == snap.Bitplanes()
    np.testing.assert_array_equal(boundary(x), snap.Count(3, before).quantize(x))
