"""Vectors that cross sorted by their tokens, from the command line: over chips as on one, and all that reads spikes."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from snap_jax import training
from snap_jax.config import Config, VisionConfig
from snap_jax.errors import UsageError
from snap_jax.models import stages
from snap_jax.tasks.batches import Batch
from snap_jax.tasks.divided import on_host
from snap_jax.training import checkpoints, directory
from snap_jax.training.transfer import inherits

pytestmark = pytest.mark.usefixtures("compiled_once_and_fast")


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """Two segments on two dies, from weights as they are made."""
    out = tmp_path_factory.mktemp("runs")
    (out / "text.txt").write_bytes(b"".join(b"line %d of a text that repeats itself\n" % (i % 7) for i in range(400)))
    dense = Config(
        data=str(out / "text.txt"), mode="dense", layers=2, chips=2, width=8, heads=2, window=8, batch=4,
        microbatches=2, steps=10, heldout_bytes=64,
    )  # fmt: skip
    begun = training.prepare(dense)
    directory.claim(out / "dense", dense, begun.fingerprint(), overwrite=False)
    checkpoints.save_weights(out / "dense" / "checkpoints" / "final", begun.params)
    hybrid = {"mode": "hybrid", "link": "count:15+rans", "budget": 3.0, "dims": 6, "taps": 1, "segments": 2}
    return dataclasses.replace(dense, init_from=str(out / "dense"), **hybrid)


@pytest.fixture(scope="module")
def job(config):
    return training.prepare(config)


def test_over_chips_they_are_what_they_are_on_one(job):
    """Loss, and its gradient with respect to the thresholds of each segment."""
    assert job.params["boundary"]["log_threshold"].shape == (2, 2, 6)  # die, segment, dims
    batch = job.batch(0)
    loss, gradient = jax.jit(job.task.loss_and_gradient)(job.params, batch)
    model, boundaries = stages.join(job.task.graph, on_host(job.params))
    graph, thresholds = nnx.split(boundaries[0])

    def on_one_chip(params):
        total, boundary = 0.0, nnx.merge(graph, params)
        for tokens, labels in zip(*batch[:2], strict=True):  # each microbatch is sorted by itself
            stream = boundary(model.blocks[0](model.enter(tokens)), tokens)
            logits = model.leave(model.blocks[1](stream))
            total += optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean() / len(batch.labels)
        return total

    expected, slope = jax.jit(jax.value_and_grad(on_one_chip))(thresholds)
    assert float(loss) == pytest.approx(float(expected), rel=1e-5)
    found, slope = gradient["boundary"]["log_threshold"][...][0], slope["log_threshold"][...]
    np.testing.assert_allclose(found, slope, atol=1e-5)
    assert (np.abs(slope).max(-1) > 1e-5).all()


def test_a_budget_moves_the_thresholds_of_a_die_not_of_a_segment(job):
    """Two of each, so that one taken for the other would not fail by itself."""
    raised = stages.raise_thresholds(job.task.graph, job.params, jnp.array([0.5, 0.0]))
    moved = raised["boundary"]["log_threshold"][...] - job.params["boundary"]["log_threshold"][...]
    np.testing.assert_allclose(moved, np.broadcast_to([[[0.5]], [[0.0]]], (2, 2, 6)), atol=1e-6)


def test_spikes_are_seen_in_the_order_of_the_text(job):
    batch = job.batch(0)
    one = Batch(*(a[:1] for a in batch[:2]))
    found = np.asarray(jax.jit(job.task.spikes)(job.params, one)[0])
    model, boundaries = stages.join(job.task.graph, on_host(job.params))
    tokens, boundary = one.inputs[0], boundaries[0]
    z = np.asarray(boundary.sender(model.blocks[0](model.enter(tokens)), tokens))  # not arranged
    loud = np.asarray(boundary.sender.order.loudness[...])[tokens].reshape(-1)
    places = np.argsort(loud, kind="stable")
    assert found.shape == z.shape == (2, 8, 6)
    for segment, rows in enumerate(np.split(places, 2)):
        threshold = jnp.exp(boundary.log_threshold[...][segment])
        spikes = boundary.codec.encoding.with_threshold(threshold).spikes(jnp.asarray(z.reshape(-1, 6)[rows]))
        np.testing.assert_array_equal(found.reshape(-1, 6)[rows], spikes)
    assert (found != 0).any()


def test_a_run_keeps_its_spikes_freezes_its_channels_and_hands_its_thresholds_on(config, tmp_path):
    result = training.train(dataclasses.replace(config, freeze=0.2), tmp_path / "run")
    frozen = result["frozen"]
    assert frozen["identical"]
    assert 0 < frozen["channels"][1] <= frozen["channels"][0] == 6
    with np.load(tmp_path / "run" / "spikes.npz") as kept:
        assert kept["spikes"].shape == (1, 8, 6)
    line = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    assert len(line["threshold_mean"]) == 1  # of one boundary
    again = dataclasses.replace(config, init_from=str(tmp_path / "run"))
    assert inherits(tmp_path / "run", again, [8])
    assert not inherits(tmp_path / "run", dataclasses.replace(again, segments=4), [8])
    saved = checkpoints.arrays(checkpoints.last_good(tmp_path / "run" / "checkpoints")[0])
    ours = training.prepare(again).params["boundary"]["log_threshold"][...]
    silent = np.asarray(ours) >= 60  # by `freeze`, at the end
    theirs = saved["params.boundary.log_threshold.value"]
    np.testing.assert_allclose(np.asarray(ours)[~silent], theirs[~silent], rtol=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Config(segments=0), "segments=0: use 1 or more"),
        (lambda: Config(segments=8), "segments=8 without a budget: vectors cross as they are: add --budget"),
        (
            lambda: Config(segments=7, budget=1.0, init_from="runs/dense"),
            "segments=7 does not divide window=128: use a divisor, such as 8",
        ),
        (
            lambda: VisionConfig(segments=8, budget=1.0, init_from="runs/dense"),
            "segments=8: vectors are sorted by token, and pictures have none: use 1",
        ),
    ],
)
def test_what_cannot_be_is_refused(make, message):
    with pytest.raises(UsageError, match=message):
        make()


def test_sorting_needs_the_tokens_and_pays_for_them():
    start = Config(budget=1.0, init_from="runs/dense", taps=0)
    assert start.context_bits == 0
    assert dataclasses.replace(start, segments=8).context_bits > 0
