"""Error feedback: no gradient is lost, and what was not sent is sent later."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from jax import lax
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

import snap_jax as snap
from snap_jax.parallel import error_feedback
from snap_jax.parallel.mesh import auto_mesh
from tests.support.feedback import ar1, on

TERNARY = snap.Codec(snap.Ternary(threshold=1.5), snap.Packed())


SPECS = error_feedback.ErrorFeedbackState(P("x"))


@pytest.mark.parametrize("relative", [True, False])
def test_no_gradient_is_lost(relative):
    """The sum of what was sent, over five steps and two parameters; and `relative` counts in the mean size of `u`."""
    grads = {"w": ar1(5, 4, 40), "b": 1e-3 * ar1(5, 4)}

    def run(grads):
        tx = error_feedback.error_feedback(TERNARY, "x", relative=relative)
        local = jax.tree.map(lambda g: g[:, 0], grads)
        state = tx.init(jax.tree.map(lambda g: g[0], local))
        state, sent = lax.scan(lambda state, g: tx.update(g, state)[::-1], state, local)
        return sent, state

    sent, state = on(4, run, grads, in_specs=P(None, "x"), out_specs=(P(), SPECS))
    for name, g in grads.items():
        lost = np.asarray(state.residual[name]).mean(0)
        np.testing.assert_allclose(sent[name].sum(0), g.mean(1).sum(0) - lost, atol=1e-5 * np.abs(g).max())
    threshold = 1.5 * float(jnp.abs(grads["w"][0]).mean()) if relative else 1.5
    spikes = np.asarray(sent["w"][0]) * 4 / threshold
    np.testing.assert_allclose(spikes, np.round(spikes), atol=1e-5)
    assert np.abs(np.round(spikes)).max() > 0
    assert (np.abs(sent["b"]).max() > 0) == relative  # 1e-3 never reaches 0.75 in five steps


def least_squares():
    """Four devices with equations of their own: their gradients cancel at the optimum, but are not zero there."""
    rng = np.random.default_rng(1)
    a = rng.standard_normal((4, 16, 8)).astype(np.float32)
    b = rng.standard_normal((4, 16)).astype(np.float32)
    best = np.linalg.lstsq(a.reshape(64, 8), b.reshape(64), rcond=None)[0]
    return a, b, best


@pytest.mark.parametrize("how", ["fp32", "feedback", "forgetful"])
def test_sgd_reaches_the_dense_optimum_only_with_its_residual(how):
    """`z = x - rate * mean residual` takes dense gradient steps at x: x comes as close as `rate * residual` lets it.

    Without residuals, spikes of gradients that should cancel do not, at whatever rate.
    """
    a, b, best = least_squares()
    tx = error_feedback.error_feedback(TERNARY, "x")
    sgd = optax.sgd(lambda t: 0.2 / (1 + t / 50))

    def run(a, b):
        x = jnp.zeros(8)

        def step(carry, _):
            x, state, rates = carry
            gradient = jax.grad(lambda x: jnp.mean((a[0] @ x - b[0]) ** 2))(lax.pcast(x, "x", to="varying"))
            if how == "fp32":
                update = lax.pmean(gradient, "x")
            else:
                update, state = tx.update(gradient, state if how == "feedback" else tx.init(x))
            step, rates = sgd.update(update, rates)
            return (optax.apply_updates(x, step), state, rates), None

        (x, state, _), _ = lax.scan(step, (x, tx.init(x), sgd.init(x)), length=600)
        return x, state

    x, state = on(4, run, a, b, out_specs=(P(), SPECS))
    distance = np.linalg.norm(x - best)
    reach = 0.2 / (1 + 600 / 50) * np.linalg.norm(np.asarray(state.residual).mean(0))
    assert distance <= reach + 1e-5 < 0.1 if how != "forgetful" else distance > 0.1


@pytest.mark.parametrize(("encoding", "best"), [(snap.Ternary, 1.53), (functools.partial(snap.Count, 3), 0.82)])
def test_the_best_relative_thresholds_for_a_gaussian(encoding, best):
    """The least squared error over a grid of thresholds, in mean sizes."""
    u = np.linspace(-6, 6, 4001, dtype=np.float32)
    weight = np.exp(-(u**2) / 2) / np.exp(-(u**2) / 2).sum()
    mean_size = float(np.sum(weight * np.abs(u)))
    assert mean_size == pytest.approx(np.sqrt(2 / np.pi), rel=1e-4)
    u, thresholds = jnp.asarray(u), np.arange(0.5, 2, 0.01)
    quantize = jax.jit(jax.vmap(lambda t: encoding(threshold=t).quantize(u)))
    errors = np.asarray((quantize(thresholds * mean_size) - u) ** 2) @ weight
    assert thresholds[errors.argmin()] == pytest.approx(best, abs=0.011)


def test_a_checkpoint_continues_bit_for_bit(tmp_path):
    """State leaves shard_map as one row a device, goes through Orbax, and comes back to the devices it came from."""
    where = auto_mesh({"x": 2})
    tx = optax.chain(error_feedback.error_feedback(TERNARY, "x"), optax.sgd(0.1, momentum=0.9))
    specs = (SPECS, P())
    xs, params = ar1(6, 2, 7), {"w": jnp.zeros(7)}
    init = jax.jit(jax.shard_map(tx.init, mesh=where, in_specs=P(), out_specs=specs))

    def step(params, state, x):
        local = lax.pcast(params, "x", to="varying")
        gradient = jax.grad(lambda p: jnp.sum((p["w"] - x[0]) ** 2))(local)
        updates, state = tx.update(gradient, state, params)
        return optax.apply_updates(params, updates), state

    step = jax.jit(jax.shard_map(step, mesh=where, in_specs=(P(), specs, P("x")), out_specs=(P(), specs)))
    params = jax.device_put(params, NamedSharding(where, P()))
    state = init(params)
    for t in range(6):
        if t == 3:
            with ocp.StandardCheckpointer() as checkpointer:
                checkpointer.save(tmp_path / "state", (params, state))
            saved = params, state
        params, state = step(params, state, xs[t])
    with ocp.StandardCheckpointer() as checkpointer:
        again = checkpointer.restore(tmp_path / "state", jax.tree.map(jnp.zeros_like, saved))
    jax.tree.map(lambda a, b: np.testing.assert_equal(a.sharding, b.sharding), again, saved)
    for t in range(3, 6):
        again = step(*again, xs[t])
    jax.tree.map(np.testing.assert_array_equal, again, (params, state))
    residual = state[0].residual["w"]
    assert residual.shape == (2, 7)
    assert not np.array_equal(*np.asarray(residual))


def test_a_step_with_a_nan_is_nan_everywhere_and_can_be_skipped():
    """Device 0 gets a NaN at the second step: all skip it alike, and go on with the residuals they had."""
    xs = ar1(3, 2, 5)
    bad = xs.at[1, 0, 3].set(jnp.nan)

    def run(xs):
        tx = optax.chain(error_feedback.error_feedback(TERNARY, "x"), optax.apply_if_finite(optax.sgd(1.0), 3))
        state, out = tx.init(xs[0, 0]), []
        for x in xs[:, 0]:
            update, state = tx.update(x, state)
            out.append(update)
        return jnp.stack(out), state[0]

    specs = {"in_specs": P(None, "x"), "out_specs": (P(), SPECS)}
    updates, state = on(2, run, bad, **specs)
    expected, expected_state = on(2, run, xs[jnp.array([0, 2])], **specs)
    np.testing.assert_array_equal(updates, [expected[0], np.zeros(5), expected[1]])
    np.testing.assert_array_equal(state.residual, expected_state.residual)


def test_bytes_are_those_of_the_spikes_and_one_scale():
    """Two shots of ternary spikes over 4 devices: 2 bits per element out, sums of -4 ... 4 in 4 bits back."""

    def run(g):
        tx = error_feedback.error_feedback(TERNARY, "x")
        return tx.update(g[0], tx.init(g[0]))

    mapped = jax.shard_map(run, mesh=auto_mesh({"x": 4}), in_specs=P("x"), out_specs=(P(), SPECS))
    traffic = snap.collective_traffic(mapped)(jnp.zeros((4, 64)))
    snap.assert_no_float_collectives(mapped, jnp.zeros((4, 64)))
    part = 64 // 4
    spikes = 4 * 3 * (part * 2 // 8 + 1) + 4 * 3 * (part * 4 // 8 + 1)
    scale, *_ = traffic
    assert (scale.op, scale.dtype, scale.bytes, scale.sent_bytes) == ("all_gather", "uint8", 4, 4 * 3 * 4)
    assert traffic.sent_bytes == spikes + scale.sent_bytes


def test_mistakes_are_named():
    with pytest.raises(snap.UsageError, match=r"fp32 sends everything, nothing is left over: use jax\.lax\.pmean"):
        error_feedback.error_feedback("fp32", "x")
    tx = error_feedback.error_feedback(TERNARY, "x")
    with pytest.raises(snap.UsageError, match=r"no mesh axis 'x' here: call it inside shard_map"):
        tx.init(jnp.zeros(3))

    def summed(x):
        return tx.update(jax.grad(lambda p: jnp.sum(p * x))(jnp.zeros(3)), tx.init(jnp.zeros(3)))

    with pytest.raises(snap.UsageError, match=r"is the same on all devices of \['x'\], so JAX has summed it already"):
        on(2, summed, jnp.ones((2, 3)), out_specs=(P(), SPECS))
