"""Scales taken from the data around spike encodings: which number they are, what they cost, which gradients result."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import snap_jax as snap
from snap_jax.encodings.scaled import decode_scale, encode_scale, quantile_code
from tests.support.programs import sample

codes_of = jax.jit(quantile_code, static_argnums=1)


@given(x=st.floats(2.0**-39, 2.0**23, width=32))
@settings(deadline=None, max_examples=100)
def test_a_scale_is_its_number_within_an_eighth(x):
    """Two bits of mantissa: numbers a quarter of a power of two apart, rounded to the nearest."""
    assert abs(float(decode_scale(encode_scale(jnp.float32(x)))) - x) <= 2.0 ** np.floor(np.log2(x)) / 8


@given(
    x=hnp.arrays(np.float32, (3, 9), elements=st.sampled_from([0.0, 0.3, 1.0, 1.5, 2.0, 1e-40, 3e38, 7e6])),
    quantile=st.sampled_from([0.1, 0.5, 1.0]),
)
@settings(deadline=None, max_examples=100)
def test_a_scale_is_the_quantile_of_what_is_not_zero(x, quantile):
    for row, code in zip(x, np.asarray(codes_of(x, quantile)), strict=True):
        counted = np.sort(row[row >= np.finfo(np.float32).tiny])
        place = int(np.ceil(np.float32(quantile) * np.float32(len(counted)))) - 1
        assert code == (encode_scale(jnp.float32(counted[place])) if len(counted) else 0)


@pytest.mark.parametrize(
    ("per", "medians"),
    [("tensor", 4), ("channel", [[1, 2, 4, 4]]), ("token", [[2], [4]]), (3, [[2, 4], [2, 8]])],
)
def test_who_shares_a_scale(per, medians):
    """The lower median of what is not zero in rows, columns or blocks of 3, the last one short."""
    x = jnp.array([[1.0, -2.0, 4.0, 4.0], [0.0, 2.0, -4.0, 8.0]])
    code = snap.Scaled(snap.Count(7, 0.3), per)
    spikes = code.fire(x)
    assert decode_scale(spikes.side[0]).tolist() == medians
    scale = np.repeat(np.asarray(medians), 3, 1)[:, :4] if per == 3 else np.asarray(medians)
    np.testing.assert_array_equal(spikes.values, np.clip(np.round(np.asarray(x) / (0.3 * scale)), -7, 7))
    np.testing.assert_array_equal(code.value(spikes), spikes.values * np.float32(0.3) * np.float32(scale))
    assert snap.Codec(code).payload_bytes(x.shape) == 8 * 4 // 8 + np.size(medians) + 1  # 4 bits each, scales, header


def test_tokens_of_any_size_are_coded_alike():
    """An outlier in one token leaves the others as they were, and a power of two changes no spike."""
    x, code = sample((6, 32)), snap.Scaled(snap.Count(7, 0.7), "token")
    large = x.at[0].multiply(2.0**14).at[0, 3].set(25265.0)
    np.testing.assert_array_equal(code.quantize(large)[1:], code.quantize(x)[1:])
    np.testing.assert_array_equal(code.spikes(x * 64.0), code.spikes(x))
    plain = snap.Count(7, 0.7 * 0.6745)
    relative = lambda c: float(jnp.mean(jnp.mean((c.quantize(large) - large)[1:] ** 2)))
    assert relative(code) < 1.5 * relative(plain)


def test_gradients_are_those_of_the_encoding_in_units_of_the_scale():
    """y = s t c with scale c: dy/dx = g, dy/dt = (s - g x / (c t)) c. With a threshold per channel, of that channel."""
    x, t = sample((5, 8)), jnp.linspace(0.4, 1.2, 8)
    value = lambda x, t: snap.Scaled(snap.Count(3, t), "token").quantize(x).sum()
    dx, dt = jax.grad(value, argnums=(0, 1))(x, t)
    fired = snap.Scaled(snap.Count(3, t), "token").fire(x)
    scale = decode_scale(fired.side[0])
    inside = np.abs(x) / (scale * t) <= 3
    np.testing.assert_allclose(dx, inside, atol=1e-6)
    expected = ((fired.values - inside * x / (scale * t)) * scale).sum(0)
    np.testing.assert_allclose(dt, expected, atol=1e-5)


def test_a_boundary_learns_a_shape_of_channels_times_the_scale_of_each_token():
    boundary = snap.Boundary("count:7:token", features=8)
    assert boundary.log_threshold.shape == (8,)
    np.testing.assert_allclose(boundary.codec.encoding.threshold, snap.codec("count:7:token").encoding.threshold)
    boundary.lower_limit(3)
    assert boundary.codec.encoding.symbols == range(-3, 4)


def test_words_name_scales():
    encoding = lambda words: snap.codec(words).encoding
    assert encoding("count:7:token") == snap.Scaled(snap.Count(7, encoding("count:7").threshold / 0.6745), "token")
    assert encoding("ternary:tensor").per == "tensor"
    assert encoding("count:3:dead0.6:block32+rans") == snap.Scaled(
        snap.Count(3, encoding("count:3").threshold / 0.6745, 0.6), 32
    )
    assert encoding("int4:token") == snap.Int(4, block="token")
    assert isinstance(encoding("latency:8:channel").encoding, snap.Latency)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: snap.Scaled(snap.Int(4)), r"Scaled: Int\(bits=4.* has no threshold .* use one such as Count\(7\)"),
        (lambda: snap.Scaled(snap.Cast()), r"Scaled: Cast\(dtype='bfloat16'\) has no threshold"),
        (lambda: snap.Scaled(snap.Scaled(snap.Count(3))), r"Scaled: Scaled.* has no threshold"),
        (lambda: snap.Scaled(snap.Count(3), "row"), r"Scaled: per='row': use 'tensor', 'channel', 'token' or a number"),
        (lambda: snap.Scaled(snap.Count(3), 0), r"Scaled: per=0: use 'tensor'"),
        (lambda: snap.Scaled(snap.Count(3), quantile=0.0), r"Scaled: quantile=0.0: use a number above 0, up to 1"),
        (lambda: snap.codec("count:3:tokens"), r"link 'count:3:tokens' is not known \(did you mean count:3:token\?\)"),
        (lambda: snap.codec("topk:0.1:token"), r"link 'topk:0.1:token' is not known"),
    ],
)
def test_errors_name_the_value_and_the_fix(make, message):
    with pytest.raises(snap.UsageError, match=message):
        make()


def weights_for(channels, each=0.0, slope=1.0, start=0.0):
    return jnp.concatenate([jnp.full(channels, each), jnp.array([slope, start])])


def test_weights_that_say_the_median_change_nothing():
    x = jax.random.normal(jax.random.key(0), (4, 8))
    plain = snap.Scaled(snap.Count(7, threshold=0.5), "token")
    weighted = snap.Scaled(snap.Count(7, threshold=0.5), "token", weights=weights_for(8))
    np.testing.assert_array_equal(plain.quantize(x), weighted.quantize(x))


@pytest.mark.parametrize(("each", "slope", "start"), [(0.1, 1.0, 0.0), (-0.05, 0.5, 2.0), (0.0, 0.0, -3.0)])
def test_weighted_scales_are_those_of_the_formula(each, slope, start):
    """To half a step of the code, an eighth of an octave to its nearest, and the code is linear between octaves."""
    x = jnp.array([[1.0, 2.0, -3.0], [100.0, 50.0, 300.0]])
    median = np.array([2.0, 96.0])  # 100 in 8 bits
    expected = (each * np.clip(x / median[:, None], -15.875, 15.875)).sum(-1) + slope * np.log2(median) + start
    encoding = snap.Scaled(snap.Count(7), "token", weights=weights_for(3, each, slope, start))
    (codes,) = encoding.encode(x)[1]
    found = np.log2(decode_scale(codes))[:, 0]
    assert np.abs(found - expected).max() < 0.125 + 0.087 * 2  # log2(1 + m) - m is at most 0.087


def test_weights_of_other_channels_are_not_used():
    x = jnp.array([[1.0, 2.0, -3.0]])
    weighted = snap.Scaled(snap.Count(7), "token", weights=weights_for(5, 1.0))
    np.testing.assert_array_equal(weighted.quantize(x), snap.Scaled(snap.Count(7), "token").quantize(x))


def test_weights_without_tokens_are_refused():
    with pytest.raises(snap.UsageError, match="Scaled: weights, and per='channel': use per='token'"):
        snap.Scaled(snap.Count(7), "channel", weights=weights_for(3))
