"""Latency and Phase: closed form, simulation, values and slopes, against formulas written out here."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import snap_jax as snap
from snap_jax.encodings import simulate_latency, simulate_phase, surrogates

simulated_latency, simulated_phase = jax.jit(simulate_latency), jax.jit(simulate_phase)
spikes = jax.jit(lambda code, x: code.spikes(x))
quantize = jax.jit(lambda code, x: code.quantize(x))
INPUTS = st.floats(-3, 3, width=32)


@given(x=INPUTS, time_steps=st.sampled_from([1, 3, 8]))
@settings(deadline=None, max_examples=50)
def test_latency_of_a_plain_neuron(x, time_steps):
    """It fires at ceil(1 / |x|) and reads as the inverse of that; later than `time_steps` it is silent."""
    assume(x == 0 or abs(1 / abs(x) - round(1 / abs(x))) > 1e-5 * abs(1 / x))  # f32 decides on the very edge
    tick = int(np.ceil(1 / abs(x))) if abs(x) > 0.01 else time_steps + 1
    code = snap.Latency(time_steps, dead_zone=1.0)
    assert int(spikes(code, jnp.float32(x))) == np.sign(x) * max(time_steps + 1 - tick, 0)
    expected = np.sign(x) / tick if tick <= time_steps else 0.0
    np.testing.assert_allclose(quantize(code, jnp.float32(x)), expected, rtol=1e-6)


@given(x=INPUTS, time_steps=st.sampled_from([1, 3, 8]))
@settings(deadline=None, max_examples=50)
def test_latency_rounds_to_the_nearest_value(x, time_steps):
    """Also where it is silent, and nothing lies beyond one threshold."""
    values = np.array([0, *(1 / t for t in range(1, time_steps + 1))])
    error = abs(float(quantize(snap.Latency(time_steps), jnp.float32(x))) - x)
    assert error <= min(abs(values - abs(x))) + 1e-6


@given(k=st.integers(-256, 256), time_steps=st.sampled_from([1, 3, 8]), dead_zone=st.sampled_from([0.3, 0.5, 1.0]))
@settings(deadline=None, max_examples=60)
def test_latency_is_its_simulation(k, time_steps, dead_zone):
    """The membrane of k / 128 is exact; where it meets what fires, f32 decides: exact for 1 and 1/2, 1/4, 1/8 of it."""
    code, x = snap.Latency(time_steps, dead_zone=dead_zone), jnp.float32(k / 128)
    exact = dead_zone == 1.0 and abs(k) in (128, 64, 32, 16)
    assume(exact or min(abs(abs(k) / 128 - np.array(code.firing_levels))) > 1e-6)
    assert float(simulated_latency(x, code)) == float(spikes(code, x))


@given(x=INPUTS, time_steps=st.sampled_from([1, 4, 8]))
@settings(deadline=None, max_examples=50)
def test_phase_is_its_simulation_and_the_binary_digits(x, time_steps):
    """Multiples of 2^-12 are exact: greedy steps are the digits of the input, rounded to `time_steps` of them."""
    x = np.round(x * 4096) / 4096
    code = snap.Phase(time_steps)
    expected = np.sign(x) * min(np.floor(abs(x) * 2**time_steps + 0.5), 2**time_steps - 1)
    assert int(spikes(code, jnp.float32(x))) == expected
    assert float(simulated_phase(jnp.float32(x), code)) == expected


def test_phase_adds_up_and_latency_does_not():
    a, b = jnp.array([0.3, -0.7]), jnp.array([0.25, 0.5])
    phase, latency = snap.Phase(4, 2.0), snap.Latency(4)
    assert phase.summable
    assert phase.decode(phase.spikes(a) + phase.spikes(b)).tolist() == (phase.quantize(a) + phase.quantize(b)).tolist()
    assert not latency.summable


@pytest.mark.parametrize("code", [lambda t: snap.Latency(4, t), lambda t: snap.Phase(2, t)], ids=["latency", "phase"])
def test_gradients_follow_the_input_up_to_saturation(code):
    """y = theta r(x / theta), slope 1 up to `end` and 0 above: dy/dtheta = r - x / theta within, r beyond."""
    theta = jnp.float32(0.5)
    x = jnp.linspace(-2, 2, 30)
    end = 1.0 if isinstance(code(theta), snap.Latency) else 0.75  # the largest value, in thresholds
    y, pull = jax.vjp(lambda x, t: code(t).quantize(x), x, theta)
    dx, _ = pull(jnp.ones_like(x))
    inside = np.abs(x / theta) <= end
    np.testing.assert_allclose(dx, inside)
    per_element = jax.vmap(jax.grad(lambda t, x: code(t).quantize(x[None])[0]), (None, 0))(theta, x)
    np.testing.assert_allclose(per_element, y / theta - inside * x / theta, atol=1e-6)


def test_latency_slope_is_that_of_its_surrogate():
    """Values 1/2 and 1, fires for the larger from 3/4 on: the distance is (x - 3/4) / (1 - 1/2)."""
    code = snap.Latency(4, surrogate=surrogates.Triangular(0.8))
    for x in (0.55, 0.7, 0.95, 1.2, -0.7):
        slope = jax.grad(lambda x: code.quantize(x))(jnp.float32(x))
        np.testing.assert_allclose(slope, max(0, 1 - 0.8 * abs(abs(x) - 0.75) / 0.5), rtol=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: snap.Latency(0), r"Latency: time_steps=0, .* use 1 to 127 time steps"),
        (lambda: snap.Latency(4, dead_zone=0.0), r"dead_zone=0.0: use .* 0 < dead_zone <= 1"),
        (lambda: snap.Phase(17), r"Phase: time_steps=17: use 1 to 16"),
    ],
)
def test_errors_name_the_value_and_the_fix(make, message):
    with pytest.raises(snap.UsageError, match=message):
        make()
