"""Steps of tokens by what their errors cost, and tables by channel and token."""

import jax
import jax.numpy as jnp
import numpy as np

import snap_jax as snap
from snap_jax.boundary import calibrate
from snap_jax.encodings.scaled import decode_scale

CHANNELS = 64


def sample():
    """Tokens of two kinds, told apart by the sign of channel 0; an error in the first kind costs 16 times as much."""
    x = jax.random.normal(jax.random.key(0), (16, 64, CHANNELS))
    dear = x[..., :1] > 0
    g = jax.random.normal(jax.random.key(1), x.shape) * jnp.where(dear, 4.0, 1.0)
    return x.at[..., 0].set(jnp.where(dear[..., 0], 2.0, -2.0)), g, np.asarray(dear[..., 0])


def test_dear_tokens_get_smaller_steps():
    """Gradients that are 4 times as large ask for a quarter of the step: 2 octaves, 1.5 of them at strength 0.75."""
    x, g, dear = sample()
    found = {}
    for strength in (0.0, 0.75, 1.0):
        encoding = snap.Scaled(snap.Count(7), "token", weights=calibrate.token_weights(x, g, strength))
        octaves = np.log2(decode_scale(encoding.encode(x)[1][0]))[..., 0]
        found[strength] = octaves[~dear].mean() - octaves[dear].mean()
    assert found[0.0] == 0
    assert abs(found[0.75] - 1.5) < 0.25  # the scales are a quarter of an octave apart, and a ridge shrinks
    assert abs(found[1.0] - 2.0) < 0.3


def test_tokens_without_gradients_do_not_count():
    x, g, _ = sample()
    silent = jnp.concatenate([x, 100 * x]), jnp.concatenate([g, 0 * g])
    np.testing.assert_allclose(calibrate.token_weights(*silent), calibrate.token_weights(x, g), rtol=1e-4, atol=1e-5)


def test_a_boundary_learns_weights_and_row_tables():
    x, g, dear = sample()
    encoding = snap.Scaled(snap.Count(31), "token", weights=calibrate.token_weights(x, g))
    boundary = snap.Boundary(snap.Codec(encoding, snap.RowRans(ratio=1.02)), CHANNELS)
    calibrate.calibrate_threshold(boundary, x, bits=3.0)
    calibrate.fit_wire([boundary], [x])
    assert len(boundary.codec.wire.lists) == 1
    y, error = boundary(x), np.asarray(jnp.abs(boundary(x) - x).mean(-1))
    assert 1.5 < error[~dear].mean() / error[dear].mean() < 4
    payload = boundary.codec.encode(x)
    np.testing.assert_array_equal(boundary.codec.decode(payload, shape=x.shape, dtype=x.dtype), y)
    plain = snap.codec(boundary.codec.encoding, snap.Rans(ratio=1.02))
    assert payload.size < plain.encode(x).size
