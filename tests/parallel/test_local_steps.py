"""Local steps: what is agreed on, what is sent, and that nothing is lost."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import lax
from jax.sharding import PartitionSpec as P

import snap_jax as snap
from snap_jax.parallel import local_steps
from snap_jax.parallel.error_feedback import ErrorFeedbackState
from snap_jax.parallel.mesh import auto_mesh
from tests.support.feedback import on

SHARED = P()


def state_specs(coded=True):
    return local_steps.LocalStepsState(SHARED, SHARED, ErrorFeedbackState(P("x")) if coded else None)


def test_one_local_step_with_floats_is_data_parallelism():
    """Local SGD of rate 0.1, then outer SGD of rate 1: `x - mean(0.1 g)`."""
    a = jnp.asarray(np.random.default_rng(0).standard_normal((2, 5, 3)), jnp.float32)
    loss = lambda x, a: jnp.mean((a @ x - 1) ** 2)
    x = jnp.array([1.0, -2.0, 0.5])

    def run(a):
        both = local_steps.local_steps(None, "x", optax.sgd(1.0))
        own = lax.pcast(x, "x", to="varying")
        state = both.init(x)
        new, state = both.exchange(own - 0.1 * jax.grad(loss)(own, a[0]), state)
        return new[None], state

    new, state = on(2, run, a, out_specs=(P("x"), state_specs(coded=False)))
    expected = x - 0.1 * np.mean([jax.grad(loss)(x, part) for part in a], 0)
    np.testing.assert_allclose(new, [expected] * 2, atol=1e-6)
    np.testing.assert_array_equal(new[0], state.params)


def test_the_outer_optimizer_is_nesterov():
    """v' = m v + d, x' = x - r (d + m v'): two exchanges with moves d of 1 and 2."""
    one = local_steps.local_steps(None, "x", optax.sgd(0.5, momentum=0.9, nesterov=True))

    def run(d):
        state = one.init(jnp.float32(0))
        own, state = one.exchange(state.params - d[0], state)
        return one.exchange(own - 2 * d[0], state)[0][None]

    v, x = 0.0, 0.0
    for d in (1.0, 2.0):
        v = 0.9 * v + d
        x -= 0.5 * (d + 0.9 * v)
    np.testing.assert_allclose(on(2, run, jnp.ones(2)), x, rtol=1e-6)


@pytest.mark.parametrize("codec", ["ternary", "int4:block32", "topk:0.1:2"])
def test_nothing_is_lost(codec):
    """Over three exchanges: what moved the shared parameters is the mean of all moves, less the last residual."""
    moves = jnp.asarray(np.random.default_rng(1).standard_normal((3, 4, 40)), jnp.float32)

    def run(moves):
        outer = local_steps.local_steps(codec, "x", optax.sgd(1.0))
        params = {"w": jnp.zeros(30), "b": jnp.zeros((2, 5))}
        split = lambda m: {"w": m[:30], "b": m[30:].reshape(2, 5)}

        def step(carry, move):
            own, state = carry
            return outer.exchange(jax.tree.map(jnp.subtract, own, split(move[0])), state), None

        own = lax.pcast(params, "x", to="varying")
        return lax.scan(step, (own, outer.init(params)), moves)[0][1]

    state = on(4, run, moves, in_specs=P(None, "x"), out_specs=state_specs())

    def flat(tree):
        b = np.asarray(tree["b"])
        return np.concatenate([np.asarray(tree["w"]), b.reshape(*b.shape[:-2], 10)], -1)

    lost = flat(state.feedback.residual).mean(0)
    np.testing.assert_allclose(flat(state.params), lost - moves.mean(1).sum(0), atol=1e-5)
    assert np.abs(flat(state.params)).max() > 0


def test_a_sparse_codec_sends_one_payload_of_few_bytes():
    """Of 4096 numbers 64: 64 (1 + 6 + 2) bits and 4096 / 64 unary zeros, a step of 4 bytes, a header."""
    codec = snap.codec("topk:0.015625:2")

    def run(x):
        outer = local_steps.local_steps(codec, "x")
        params = {"w": jnp.zeros((64, 60)), "b": jnp.zeros(256)}
        return outer.exchange(jax.tree.map(lambda p: p - x[0], params), outer.init(params))[1].params

    mapped = jax.shard_map(run, mesh=auto_mesh({"x": 4}), in_specs=P("x"), out_specs=P())
    (transfer,) = snap.collective_traffic(mapped)(jnp.ones(4))
    assert (transfer.op, transfer.bytes) == ("all_gather", (64 * 9 + 64) // 8 + 4 + 1)
    assert codec.payload_bytes((4096,)) == transfer.bytes
    assert 4 * 4096 / codec.payload_bytes((4096,)) > 146


def test_floats_left_over_are_a_mistake():
    with pytest.raises(snap.UsageError, match=r"no mesh axis 'x' here: call it inside shard_map"):
        local_steps.local_steps("ternary", "x").init(jnp.zeros(3))
