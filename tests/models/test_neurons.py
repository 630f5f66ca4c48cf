"""Neurons step by step: the closed form, the leak, and time steps that stay apart from the batch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from snap_jax.encodings import Rate
from snap_jax.encodings.rate import simulate
from snap_jax.errors import UsageError
from snap_jax.models.neurons import TickNeurons, average, fired, repeat, unfold


@pytest.mark.parametrize("time_steps", [1, 4, 7])
def test_without_leak_the_count_is_the_closed_form(time_steps):
    # Eighths are exact in f32, so the staircase of the closed form and the simulation agree at its very steps.
    x = jnp.arange(-16, 17) / 8
    count = unfold(TickNeurons(time_steps, leak=1.0)(repeat(x, time_steps)), time_steps).sum(0)
    rate = Rate(time_steps, signed=False, start=0.0)
    np.testing.assert_array_equal(count, rate.spikes(x))


@pytest.mark.parametrize("leak", [0.5, 0.9])
def test_with_leak_the_count_is_the_simulation(leak):
    x = jnp.linspace(-1, 2, 31)
    count = unfold(TickNeurons(8, leak=leak)(repeat(x, 8)), 8).sum(0)
    np.testing.assert_array_equal(count, simulate(x, Rate(8, leak=leak, signed=False, start=0.0)))


def test_a_neuron_by_hand():
    """Leak 1/2, current 0.8: V = 0.8; 1.2 fires, 0.2 left; 0.9; 1.25 fires."""
    act = TickNeurons(4, leak=0.5)
    assert act(jnp.full(4, 0.8)).tolist() == [0, 1, 0, 1]
    assert TickNeurons(4, threshold=2.0, leak=0.5)(jnp.full(4, 1.6)).tolist() == [0, 1, 0, 1]


def test_without_ticks_nothing_fires():
    x = jnp.array([-1.0, 0.5])
    assert fired(0)(x).tolist() == [0.0, 0.5]
    assert fired(0, jnp.negative)(x).tolist() == [1.0, -0.5]
    assert fired(2) == TickNeurons(2)


def test_images_of_a_batch_have_membranes_of_their_own():
    x = jnp.asarray(np.random.default_rng(0).uniform(0, 2, (3 * 4, 5)), jnp.float32)  # 3 time steps of 4 images
    act = TickNeurons(3)
    alone = [act(x[i::4]) for i in range(4)]
    for i in range(4):
        np.testing.assert_array_equal(act(x)[i::4], alone[i])


def test_the_gradient_is_the_surrogates():
    """Two time steps of 0.8, leak 1/2: d s_1 = g(0.8 - 1), d s_2 = g(1.2 - 1) (1/2 d x_1 + d x_2)."""
    act = TickNeurons(2, leak=0.5)
    g = act.surrogate
    gradient = jax.grad(lambda x: act(x).sum())(jnp.full(2, 0.8))
    first, second = g(jnp.asarray(-0.2)), g(jnp.asarray(0.2))
    np.testing.assert_allclose(gradient, [first + second / 2, second], rtol=1e-5)


def test_ticks_fold_and_unfold():
    x = jnp.arange(6.0).reshape(2, 3)
    assert repeat(x, 0).tolist() == average(x, 0).tolist() == x.tolist()
    np.testing.assert_array_equal(unfold(repeat(x, 4), 4), jnp.stack([x] * 4))
    np.testing.assert_array_equal(average(repeat(x, 4), 4), x)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"time_steps": -1}, "TickNeurons: time_steps=-1, threshold=1.0, leak=0.5: use time_steps >= 1, threshold > 0"),
        ({"threshold": 0.0}, "threshold=0.0"),
        ({"leak": 0.0}, "leak=0.0.* 0 < leak <= 1"),
        ({"leak": 1.1}, "leak=1.1"),
    ],
)
def test_a_neuron_that_cannot_be_is_refused(change, message):
    with pytest.raises(UsageError, match=message):
        TickNeurons(**({"time_steps": 4} | change))


def test_ticks_that_do_not_divide_are_named():
    with pytest.raises(
        UsageError, match="unfold: time_steps=3 does not divide a first axis of 4: pass the input to `repeat`"
    ):
        TickNeurons(3)(jnp.zeros(4))
