"""Budgets with replicas: the penalty of each replica's rows, one gradient, one controller."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import snap_jax as snap
from snap_jax import training
from snap_jax.boundary.rate_penalties import Penalty
from snap_jax.errors import UsageError
from snap_jax.training.config import LanguageConfig
from snap_jax.training.tasks import assemble
from snap_jax.training.tasks.layout import Layout
from tests.support import toy
from tests.support.training_jobs import write_text

COUNTS, TERNARY = snap.codec("count:3"), snap.codec("ternary")


@functools.cache
def program(data, data_codec=None):
    layout = Layout(data=data, pipeline=2)
    task, params = assemble.build(toy.build(), layout, COUNTS, None, penalty=Penalty(0.3), data_codec=data_codec)
    return jax.jit(task.penalized_loss_and_gradient), params


def penalized(data, batch, data_codec=None):
    run, params = program(data, data_codec)
    return jax.tree.map(np.asarray, run(params, batch, jnp.zeros(2)))


@pytest.mark.parametrize("data_codec", [None, TERNARY], ids=["mean", "rows"])
def test_replicas_do_what_one_does_with_each_half(data_codec):
    """Loss and gradient are the means of theirs, or rows of them; the telemetry is their sum."""
    batch = toy.batch(2, 4)
    halves = [penalized(1, jax.tree.map(lambda a, i=i: a[:, i : i + 2], batch)) for i in (0, 2)]
    (loss, seen), gradient = penalized(2, batch, data_codec)
    assert float(loss) == pytest.approx(np.mean([half[0][0] for half in halves]), rel=1e-6)
    assert seen.elements.tolist() == [
        sum(n) for n in zip(*(half[0][1].elements.tolist() for half in halves), strict=True)
    ]
    join = np.mean if data_codec is None else np.stack
    expected = jax.tree.map(lambda *each: join(each, axis=0), *(half[1] for half in halves))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-6), gradient, expected)
    log_thresholds = jax.tree.leaves(gradient["boundary"])
    assert max(np.abs(leaf).max() for leaf in log_thresholds) > 1e-3  # the penalty reaches them


@pytest.fixture(scope="module")
def dense(tmp_path_factory):
    """A run to start from."""
    out = tmp_path_factory.mktemp("dense")
    config = LanguageConfig(
        data=write_text(out), mode="dense", model="transformer", layers=2, devices=2, width=8, heads=2, seq_len=8,
        batch=4, microbatches=2, steps=1, heldout_bytes=64,
    )  # fmt: skip
    training.train(config, out / "run")
    return dataclasses.replace(config, mode="hybrid", init_from=str(out / "run"), steps=2)


def test_a_run_with_replicas_takes_a_budget(dense):
    """It sends gradients as spikes, so that there is a row for each replica."""
    config = dataclasses.replace(
        dense, devices=4, layout="data:2+pipeline:2", link="count:3+rans", budget=1.5, context_tokens=0
    )
    job = training.prepare(config)
    step = jax.eval_shape(job.loss_and_gradient, job.params, job.batch(0), job.extra())
    (loss, _), gradient = step
    assert loss.shape == ()
    assert all(g.shape == (2, *p.shape) for g, p in zip(*map(jax.tree.leaves, (gradient, job.params)), strict=True))


@pytest.mark.parametrize("layout", ["data", "tensor", "pipeline:2+tensor"])
def test_a_budget_needs_stages_that_are_whole(layout):
    with pytest.raises(UsageError, match=r"--budget 1.0 with --layout .*: it applies between pipeline stages: use"):
        LanguageConfig(layout=layout, link="count:3+rans", budget=1.0, init_from="runs/dense")
