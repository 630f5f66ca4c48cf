"""Encodings: value, range, gradients, bad input, against formulas written out here."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import snap_jax as snap
from snap_jax.encodings import simulate, surrogates

ALL = {
    "ternary": snap.Ternary(0.7),
    "ternary-firing": snap.Ternary(0.7, dead_zone=1.0),
    "count": snap.Count(3, 0.4),
    "rate": snap.Rate(4, 1.2),
    "rate-leaky": snap.Rate(4, 1.2, leak=0.5),
    "rate-unsigned": snap.Rate(4, 1.2, signed=False),
    "latency": snap.Latency(5, 0.7),
    "phase": snap.Phase(3, 1.2),
    "count-token": snap.Scaled(snap.Count(3, 0.7), "token"),
    "latency-channel": snap.Scaled(snap.Latency(5, 2.0), "channel"),
    "integer": snap.Int(4, 0.3),
    "integer-absmax": snap.Int(3),
    "integer-channel": snap.Int(2, block="channel"),
    "integer-block": snap.Int(4, block=2),
    "topk": snap.TopK(0.4, 3),
    "bf16": snap.Cast("bfloat16"),
    "f16": snap.Cast("float16"),
    "f8": snap.Cast("float8_e4m3fn"),
}
SHAPES = st.sampled_from([(), (0,), (5,), (2, 3)])  # few, so that each compiles once
FLOATS = SHAPES.flatmap(
    lambda shape: hnp.arrays(np.float32, shape, elements=st.floats(width=32, allow_nan=False, allow_infinity=False))
)


def test_encodings_with_equal_settings_are_two_structures():
    """Else `jit` runs the program of the one for the other: eight, one half and straight-through mean both of these."""
    latency, phase = (jax.tree.structure(code) for code in (snap.Latency(8, dead_zone=0.5), snap.Phase(8, start=0.5)))
    assert latency.node_data()[1] == phase.node_data()[1]
    assert latency != phase
    assert latency == jax.tree.structure(snap.Latency(8, 3.0, dead_zone=0.5))


@jax.jit
def there_and_here(codec, x):
    payload = codec.encode(x)
    return codec.decode(payload, shape=x.shape, dtype=x.dtype), codec.quantize(x), codec.spikes(x), payload


@pytest.mark.parametrize("name", ALL)
@given(x=FLOATS)
@settings(max_examples=40, deadline=None)
def test_decoding_gives_what_quantize_promised(name, x):
    """Any finite input, denormal and huge ones too: the bytes decode to `quantize(x)`, bit for bit, and finite."""
    codec = snap.Codec(ALL[name])
    there, here, spikes, payload = jax.tree.map(np.asarray, there_and_here(codec, x))
    np.testing.assert_array_equal(there.view(np.uint32), here.view(np.uint32))
    assert np.isfinite(here).all()
    assert all(int(s) in codec.encoding.symbols for s in spikes.reshape(-1))
    assert payload.size == codec.payload_bytes(x.shape)


@pytest.mark.parametrize("size", [1, 4, 5])
@pytest.mark.parametrize("threshold", [2.0**-126, 2.0**100, 2.552118e38])
def test_one_threshold_is_one_spike_however_large_or_small(threshold, size):
    """The inverse of 2^126 and more is denormal, which XLA takes for zero."""
    x = jnp.full(size, threshold, jnp.float32)
    assert snap.Ternary(threshold).spikes(x).tolist() == [1] * size
    assert snap.Int(2).spikes(x).tolist() == [1] * size


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_invariant_5_one_bad_value_makes_all_of_it_nan(name, bad):
    codec, x = snap.Codec(ALL[name]), jnp.ones((3, 4)).at[1, 2].set(bad)
    assert np.isnan(codec.quantize(x)).all()
    assert np.isnan(codec.decode(codec.encode(x), shape=x.shape, dtype=x.dtype)).all()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("name", ALL)
def test_dtype_is_kept_and_nothing_overflows(name, dtype):
    largest = float(jnp.finfo(dtype).max)
    y = ALL[name].quantize(jnp.asarray([largest, -largest, 0.0], dtype))
    assert y.dtype == dtype
    assert np.isfinite(y.astype(jnp.float32)).all()


@given(x=st.floats(-5, 5, width=32))
@settings(deadline=None, max_examples=50)
def test_count_formula(x):
    step, limit, dead_zone = 0.4, 3, 0.75
    in_thresholds = np.float32(abs(x)) * (1 / np.float32(step))
    expected = np.sign(x) * min(np.floor(in_thresholds + np.float32(1 - dead_zone)), limit)
    assert int(snap.Count(limit, step, dead_zone).spikes(jnp.float32(x))) == expected


def test_ternary_fires_at_its_dead_zone():
    x = jnp.array([0.99, 1.0, -0.99, -1.0])
    assert snap.Ternary(2.0).spikes(x).tolist() == [0, 1, 0, -1]
    assert snap.Ternary(1.0, dead_zone=1.0).spikes(x).tolist() == [0, 1, 0, -1]


@given(k=st.integers(-64, 64), time_steps=st.sampled_from([1, 4, 16]), signed=st.booleans())
@settings(deadline=None, max_examples=30)
def test_rate_closed_form_is_the_simulation(k, time_steps, signed):
    """Multiples of 1/32, where both are exact: the same count."""
    rate = snap.Rate(time_steps, signed=signed)
    x = jnp.float32(k / 32)
    assert float(rate.spikes(x)) == float(simulate(x, rate))


@given(x=st.floats(-3, 3, width=32), time_steps=st.sampled_from([1, 3, 8]))
@settings(deadline=None, max_examples=20)
def test_rate_anywhere_is_at_most_one_spike_from_the_simulation(x, time_steps):
    rate = snap.Rate(time_steps)
    assert abs(float(rate.spikes(jnp.float32(x))) - float(simulate(jnp.float32(x), rate))) <= 1


def test_leaky_rate_by_hand():
    """leak 1/2, start 1/2, x = 0.9: V = 1.15 fires -> .15, .975, 1.3875 fires -> .3875, 1.09375 fires."""
    assert snap.Rate(4, leak=0.5).spikes(jnp.array([0.9, -0.9])).tolist() == [3, -3]
    assert snap.Rate(4, leak=0.5, signed=False).spikes(jnp.array([0.9, -0.9])).tolist() == [3, 0]


@pytest.mark.parametrize("encoding", [snap.Ternary, lambda t: snap.Count(3, t), lambda t: snap.Int(3, t)])
def test_gradients_are_those_of_a_learned_step(encoding):
    """y = s theta: dy/dx = g and dy/dtheta = s - g x / theta, g = 1 in range and 0 beyond (LSQ)."""
    theta = jnp.float32(0.5)
    limit = encoding(theta).symbols.stop - 1
    x = jnp.linspace(-4, 4, 42)  # none on the edge of the range
    value = lambda x, theta: encoding(theta).quantize(x[None])[0]
    dx, dtheta = jax.vmap(jax.grad(value, argnums=(0, 1)), in_axes=(0, None))(x, theta)
    symbols = encoding(theta).symbols
    beyond = 0.0 if symbols.start == -limit else 0.5  # counts saturate at their limit, integers half a step later
    inside = (x / theta >= symbols.start - beyond) & (x / theta <= limit + beyond)
    np.testing.assert_allclose(dx, inside)
    np.testing.assert_allclose(dtheta, encoding(theta).spikes(x) - inside * x / theta, atol=1e-6)


def test_integer_absmax_sends_its_step():
    encoding, x = snap.Int(4), jnp.array([-7.0, 3.2, 14.0])
    spikes, (step,) = encoding.encode(x)
    assert float(step) == 14 / 7
    assert spikes.tolist() == [-4, 2, 7]  # -3.5 rounds to even
    assert snap.Codec(encoding).payload_bytes((3,)) == 2 + 4 + 1


SURROGATES = {
    surrogates.Rectangular(0.5): lambda d: (abs(d) < 0.25) / 0.5,
    surrogates.Triangular(2.0): lambda d: max(0, 1 - 2 * abs(d)),
    surrogates.ATan(2.0): lambda d: 1 / (1 + (np.pi * d) ** 2),
    surrogates.SuperSpike(25.0): lambda d: 1 / (1 + 25 * abs(d)) ** 2,
    surrogates.Gaussian(0.5): lambda d: np.exp(-2 * d**2) / (0.5 * np.sqrt(2 * np.pi)),
    surrogates.StraightThrough(): lambda d: float(-1 <= d <= 0.5),
}


@pytest.mark.parametrize("surrogate", SURROGATES, ids=lambda s: type(s).__name__)
def test_surrogates_against_their_formulas(surrogate):
    for d in (-0.9, -0.3, -0.2, 0.0, 0.1, 0.4, 0.7):
        np.testing.assert_allclose(surrogate(jnp.float32(d)), SURROGATES[surrogate](d), rtol=1e-5)


@pytest.mark.parametrize("surrogate", SURROGATES, ids=lambda s: type(s).__name__)
def test_a_spike_has_the_slope_of_its_surrogate(surrogate):
    """Two firing levels, at 1 and 2 thresholds: the slope is that of the nearest one, on both sides of zero."""
    for u in (0.2, 0.9, 1.3, 1.6, 2.4, -0.9, -1.6):
        slope = jax.grad(lambda u: surrogates.staircase(u, 2, 1.0, True, surrogate))(jnp.float32(u))
        nearest = 1 if abs(u) < 1.5 else 2
        np.testing.assert_allclose(slope, SURROGATES[surrogate](abs(u) - nearest), rtol=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: snap.Count(0), r"Count: limit=0 fires never: use a limit of 1"),
        (lambda: snap.Count(3, dead_zone=0.0), r"Count: dead_zone=0.0: use a number above 0"),
        (lambda: snap.Count(3, dead_zone=float("nan")), r"Count: dead_zone=nan: use a number above 0"),
        (lambda: snap.codec("count:3:dead0"), r"Count: dead_zone=0.0: use a number above 0"),
        (lambda: snap.Ternary(dead_zone=-1.0), r"Ternary: dead_zone=-1.0: use a number above 0"),
        (lambda: snap.Rate(0), r"Rate: time_steps=0.*use time_steps >= 1"),
        (lambda: snap.Rate(2, leak=1.5), r"leak=1.5: use .* leak <= 1"),
        (lambda: snap.Int(1), r"Int: bits=1: use 2 to 8"),
        (lambda: snap.Cast("int8"), r"Cast: dtype=int8 is no float"),
        (lambda: snap.Codec(snap.Ternary()).encode(jnp.arange(3)), r"got dtype int32, only floats"),
        (lambda: snap.Codec(snap.Cast(), snap.Bitplanes()).encode(jnp.ones(3)), r"Bitplanes: .* use Packed"),
    ],
)
def test_errors_name_the_value_and_the_fix(make, message):
    with pytest.raises(snap.UsageError, match=message):
        make()


def test_the_wrong_kind_of_object_is_told_from_the_right_one():
    """In a process of its own: here jaxtyping checks every argument first."""
    wrap, wire, encoding = "wrap it: snap.Codec(encoding)", "no wire: give one such as Rans()", "no encoding: give one"
    expected = {
        "snap.all_gather([x, x], 'd', codec=snap.Count(limit=3))": wrap,
        "snap.all_gather(x, 'd', codec=snap.Count(limit=3))": wrap,
        "snap.Boundary(snap.Count(limit=3), features=16)": wrap,
        "snap.Boundary(None, 4, grad_codec=snap.Count(limit=3))": wrap,
        "snap.Boundary(snap.Rans(), 4)": 'is no codec: give a snap.Codec, words such as "count:3+rans", or None',
        "snap.Boundary('count:3', 4).set_wire('rans')": wire,
        "snap.Codec(snap.Count(limit=3), 'rans')": wire,
        "snap.Codec(snap.Count(limit=3), snap.Count(limit=3))": wire,
        "snap.codec(snap.Count(limit=3), 3)": wire,
        "snap.Codec('count:3')": encoding,
        "snap.Codec(snap.Rans())": encoding,
        "snap.Codec(snap.Count)": encoding,
        "snap.codec(None)": encoding,
        "snap.codec(3)": encoding,
        "snap.Count(limit=3.5)": "Count: limit=3.5 is no integer: use a limit of 1 or more",
        "snap.Int(bits=4.5)": "Int: bits=4.5: use 2 to 8",
    }
    script = f"""
import jax.numpy as jnp, snap_jax as snap
x = jnp.ones(3)
for call in {list(expected)!r}:
    try:
        eval(call)
    except snap.UsageError as error:
        print(error)
    else:
        print("accepted")
"""
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    for (call, message), line in zip(expected.items(), shown.splitlines(), strict=True):
        assert message in line, (call, line)


def test_a_codec_is_a_pytree_and_equal_ones_share_a_compilation():
    codec = snap.Codec(snap.Ternary(0.5))
    assert jax.tree.leaves(codec) == [0.5]
    traces = []

    @jax.jit
    def quantize(codec, x):
        traces.append(None)
        return codec.quantize(x)

    quantize(snap.Codec(snap.Ternary(0.5)), jnp.ones(3))
    quantize(snap.Codec(snap.Ternary(0.6)), jnp.ones(3))
    assert len(traces) == 1
