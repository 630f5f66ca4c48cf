"""Runs with local steps: nothing is sent between exchanges, and a stopped run goes on with the same bits."""

import dataclasses
import json
import os
import signal

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec as P

import snap_jax as snap
from snap_jax import training
from snap_jax.parallel.error_feedback import ErrorFeedbackState
from snap_jax.parallel.local_steps import LocalStepsState
from snap_jax.parallel.mesh import auto_mesh
from snap_jax.traffic import Traffic
from snap_jax.training import Stopped, checkpoints
from snap_jax.training.config import LanguageConfig
from snap_jax.training.local_rounds import LocalRounds, Replicas
from snap_jax.training.tasks import assemble
from snap_jax.training.tasks.layout import Layout
from snap_jax.training.train_step import TrainState, _where, steps_done
from tests.support import toy
from tests.support.small_models import run
from tests.support.training_jobs import write_text


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return LanguageConfig(
        data=write_text(tmp_path_factory.mktemp("data")), model="transformer", layout="data", grad_link="ternary",
        local_steps=4, layers=1, devices=2, width=8, heads=2, seq_len=8, batch=2, microbatches=1, steps=20, ema=0.9,
        heldout_bytes=256,
    )  # fmt: skip


@pytest.fixture(scope="module")
def whole(config, tmp_path_factory):
    out = tmp_path_factory.mktemp("whole") / "run"
    return out, training.train(config, out)


def arrays(out):
    good, _ = checkpoints.last_good(out / "checkpoints")
    assert good is not None
    return checkpoints.arrays(good)


def test_a_run_stopped_within_a_round_goes_on_with_the_same_bits(config, whole, tmp_path):
    """After step 11 of rounds of 4: replicas differ, and each has a residual of its own."""
    out = tmp_path / "run"

    def kill(progress):
        if progress.step == 10:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Stopped, match="after step 11"):
        training.train(config, out, on_progress=kill)
    kernel = "replicas.params.model.head.kernel.value"
    stopped = arrays(out)
    assert stopped["step"].tolist() == [11, 11]
    assert not np.array_equal(*stopped[kernel])
    assert not np.array_equal(*stopped["replicas.feedback.residual.model.head.kernel.value"])
    result = training.train(config, out, resume=True)
    assert result["training"]["resumed_at"] == [11]
    ended = arrays(out)
    jax.tree.map(np.testing.assert_array_equal, ended, arrays(whole[0]))
    np.testing.assert_array_equal(ended[kernel], [ended["params.model.head.kernel.value"]] * 2)  # after the last round
    for name in ("quality", "wire", "cost", "config"):
        assert result[name] == whole[1][name]


def test_a_step_sends_nothing_and_an_exchange_counts_once_per_round(whole):
    out, result = whole
    assert Traffic.from_json((out / "traffic.json").read_text()).sent_bytes == 0
    exchange = Traffic.from_json((out / "exchange.json").read_text())
    assert {t.dtype for t in exchange} == {"uint8"}
    wire = result["wire"]
    sent = exchange.sent_bytes
    assert wire["exchange"] == {"bytes": sent, "per_step": 5 / 20, "bytes_per_step": sent / 4}
    assert wire["backward_bytes_per_step"] == round(sent / 4)
    assert wire["by_boundary"][-1]["backward_bytes"] == round(sent / 4)
    assert json.loads((out / "run.json").read_text())["config"]["local_steps"] == 4
    seconds = result["cost"]["400G Ethernet"]["latency_s_per_step"]
    assert seconds[0] > 0
    assert result["quality"]["value"] < 8  # bits per byte of an untrained model


def test_gradients_are_those_of_each_replica_at_its_own_parameters():
    task, params = assemble.build(toy.build(1), Layout(data=2), None, None, local=True)
    alone, one = assemble.build(toy.build(1), Layout(), None, None)
    own = [params, jax.tree.map(lambda p: 1.5 * p, params)]
    batch = toy.batch(1, 4)
    rows = jax.tree.map(lambda *p: jnp.stack([np.asarray(each) for each in p]), *own)
    loss, gradient = run(task.loss_and_gradient, rows, batch)
    for i, each in enumerate(own):
        half = jax.tree.map(lambda a, i=i: a[:, 2 * i : 2 * i + 2], batch)
        host = jax.tree.map(lambda p, like: jax.device_put(np.asarray(p), like.sharding), each, one)
        expected_loss, expected = run(alone.loss_and_gradient, host, half)
        assert float(loss[i]) == pytest.approx(float(expected_loss), rel=1e-6)
        jax.tree.map(lambda g, e, i=i: np.testing.assert_allclose(g[i], e, atol=1e-6), gradient, expected)


@pytest.mark.parametrize("codec", [None, "ternary", "topk:0.1"])
def test_exchanges_of_a_run_are_those_of_a_loop_inside_shard_map(codec):
    mesh, outer = auto_mesh({"data": 2}), optax.sgd(0.7, momentum=0.9, nesterov=True)
    rounds = LocalRounds(mesh, snap.codec(codec or "fp32"), lambda tree: jax.tree.map(lambda _: P(), tree), outer)
    steps = snap.local_steps(codec, "data", outer)
    shared = {"w": jnp.arange(12.0).reshape(3, 4), "b": jnp.ones(5)}
    moves = np.random.default_rng(0).standard_normal((2, 2, 17)).astype(np.float32)
    move = lambda tree, m: {"w": tree["w"] - m[:12].reshape(3, 4), "b": tree["b"] - m[12:]}

    def inside(moves):
        state = steps.init(shared)
        for m in moves[:, 0]:
            _, state = steps.exchange(move(state.params, m), state)
        return state

    feedback = None if codec is None else ErrorFeedbackState(P("data"))
    specs = LocalStepsState(P(), P(), feedback)
    expected = jax.jit(jax.shard_map(inside, mesh=mesh, in_specs=P(None, "data"), out_specs=specs))(moves)

    def outside(moves):
        params, replicas = shared, rounds.init(shared)
        for m in moves:
            params, replicas = rounds.exchange(params, replicas._replace(params=jax.vmap(move)(replicas.params, m)))
        return params, replicas

    params, replicas = jax.jit(outside)(moves)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), params, expected.params)
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, [b] * 2), replicas.params, params)
    if feedback is not None:
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), replicas.feedback, expected.feedback)


def test_a_replica_that_fails_stops_and_the_others_go_on():
    """Of two rows the second is not finite: its step, parameters and moments stay; scalars are shared."""

    def state(step, number):
        rows = jnp.full((2, 3), number)
        optimizer = {"mu": rows, "count": jnp.int32(step)}
        return TrainState(
            jnp.full(2, step),
            jnp.zeros(3),
            optimizer,
            None,
            0.0,
            0,
            jnp.array([True, True]),
            {},
            Replicas(rows, (), ()),
        )

    found = _where(jnp.array([True, False]), state(8, 2.0), state(7, 1.0))
    assert found.replicas is not None
    assert (found.step.tolist(), steps_done(found), int(found.optimizer["count"])) == ([8, 7], 7, 8)
    for rows in (found.replicas.params, found.optimizer["mu"]):
        np.testing.assert_array_equal(rows, [[2.0] * 3, [1.0] * 3])


def test_a_loss_that_is_not_finite_names_the_step(config):
    with pytest.raises(snap.UsageError, match=r"train: the .* is nan at step [2-9]: use a lower --learning-rate"):
        training.measure(dataclasses.replace(config, learning_rate=1e30, ema=None))
