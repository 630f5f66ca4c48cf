"""A transform that somebody else wrote: one class, used alone, in a chain, and over devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import PartitionSpec as P

import snap_jax as snap
from snap_jax.boundary import Transform, chain
from snap_jax.boundary.calibrate import calibrate
from snap_jax.parallel.mesh import auto_mesh


class Gain(Transform):
    """Multiply each channel by a learned gain, and divide by it at the receiver."""

    def __init__(self, features, *, rngs):
        self.channels = features
        self.log_gain = nnx.Param(jnp.zeros(features))

    def prepare(self, x, context=None):
        """Return `gain x`."""
        return x * jnp.exp(self.log_gain[...])

    def restore(self, z, context=None):
        """Return `z / gain`."""
        return z * jnp.exp(-self.log_gain[...])

    def calibrate(self, x, context=None):
        """Give all channels a mean square of 1."""
        self.log_gain[...] = -0.5 * jnp.log(jnp.square(x).mean(0))


def sample(*shape):
    return jnp.asarray(np.random.default_rng(0).standard_normal(shape), jnp.float32)


def test_it_is_used_like_a_built_in_one():
    x = sample(500, 4) * jnp.array([0.1, 1.0, 3.0, 10.0])
    boundary = snap.Boundary(snap.Codec(snap.Count(15)), 4, transform=Gain)
    calibrate(boundary, x, bits=3.0)
    np.testing.assert_allclose(jnp.square(boundary.prepare(x)).mean(0), 1.0, rtol=1e-4)
    error, plain = (jnp.square(b(x) - x).mean(0) / jnp.square(x).mean(0) for b in (boundary, without_gain(x)))
    assert float(error.max()) < 0.1 < float(plain.max())  # one threshold for all is too large for the first channel


def without_gain(x):
    boundary = snap.Boundary(snap.Codec(snap.Count(15)), 4)
    calibrate(boundary, x, bits=3.0)
    return boundary


def test_each_side_learns_from_its_own_use():
    """Without a codec `restore(prepare(x))` is x; its derivative by the two gains is x and -x."""
    graph, params = nnx.split(snap.Boundary(None, 4, transform=Gain))
    x = sample(3, 4)
    gradient = jax.grad(lambda p: nnx.merge(graph, p)(x).sum())(params)
    np.testing.assert_allclose(gradient["sender"]["links"][0]["log_gain"][...], x.sum(0), rtol=1e-5)
    np.testing.assert_allclose(gradient["receiver"]["links"][0]["log_gain"][...], -x.sum(0), rtol=1e-5)


@pytest.mark.parametrize("first", [True, False])
def test_it_is_a_link_of_a_chain(first):
    learned = snap.LearnedTransform(rank=4, token_groups=2, vocabulary=2)
    made = chain(Gain, learned) if first else chain(learned, Gain)
    boundary = snap.Boundary(None, 4, transform=made)
    assert [type(link).__name__ for link in boundary.sender.links].index("Gain") == (0 if first else 2)
    assert boundary.channels == 8
    x, tokens = sample(2, 6, 4), jnp.arange(12).reshape(2, 6) % 2
    np.testing.assert_allclose(boundary(x, tokens), x, atol=1e-6)


def test_over_devices_it_is_what_it_is_on_one():
    boundary = snap.Boundary("count:7", 4, transform=chain(Gain, snap.LearnedTransform(3)))
    x = sample(8, 4)
    swap = lambda x: boundary.ppermute(x, "x", [(0, 1), (1, 0)])
    swapped = jax.jit(jax.shard_map(swap, mesh=auto_mesh({"x": 2}), in_specs=P("x"), out_specs=P("x")))(x)
    np.testing.assert_allclose(swapped, jnp.roll(boundary(x), 4, 0), atol=1e-6)
