"""Vectors sent sorted by their tokens: many devices give what one gives; pruning, resuming and handing on work."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from snap_jax import training
from snap_jax.boundary.transforms import TransformChain
from snap_jax.errors import UsageError
from snap_jax.training import checkpoints, run_dir, starting
from snap_jax.training.config import LanguageConfig
from snap_jax.training.init_from import inherits, weights_of
from snap_jax.training.language import _write_raster, network
from snap_jax.training.link_setup import controller_of, links_of
from snap_jax.training.optimizer import optimizer
from snap_jax.training.tasks.assemble import on_one_device
from snap_jax.training.tasks.losses import Batch
from snap_jax.training.train_step import start
from tests.support.training_jobs import save_untrained, write_text


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """Two token groups on two stages, from weights as they are made."""
    out = tmp_path_factory.mktemp("runs")
    dense = LanguageConfig(
        data=write_text(out), mode="dense", model="transformer", layers=2, devices=2, width=8, heads=2, seq_len=8,
        batch=4, microbatches=2, steps=10, heldout_bytes=64,
    )  # fmt: skip
    save_untrained(dense, out / "dense")
    hybrid = {
        "mode": "hybrid",
        "link": "count:7+rans",
        "budget": 3.0,
        "rank": 6,
        "context_tokens": 1,
        "token_groups": 2,
        "grad_link": "fp32",
    }
    return dataclasses.replace(dense, init_from=str(out / "dense"), **hybrid)


@pytest.fixture(scope="module")
def job(config):
    return training.prepare(config)


def test_over_devices_they_are_what_they_are_on_one(job):
    assert job.params["boundary"]["log_threshold"].shape == (2, 12)  # stage, channels of both groups
    batch = job.batch(0)
    loss = float(jax.jit(job.task.loss)(job.params, batch))
    model, (boundary, _) = job.task.stages.join(on_one_device(job.params))

    @jax.jit
    def alone(model, boundary, tokens, labels):
        stream = boundary(model.blocks[0](model.enter(tokens)), tokens)
        logits = model.leave(model.blocks[1](stream))
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    # Each microbatch is sorted by itself.
    expected = [alone(model, boundary, *microbatch) for microbatch in zip(*batch, strict=True)]
    assert loss == pytest.approx(np.mean(expected), rel=1e-5)


def test_a_budget_moves_the_thresholds_of_a_stage_not_of_a_group(job):
    """Two of each, so that one taken for the other would not fail by itself."""
    raised = job.task.stages.raise_thresholds(job.params, jnp.array([0.5, 0.0]))
    moved = raised["boundary"]["log_threshold"][...] - job.params["boundary"]["log_threshold"][...]
    np.testing.assert_allclose(moved, np.broadcast_to([[0.5], [0.0]], (2, 12)), atol=1e-6)


@pytest.fixture(scope="module")
def spikes(job):
    """Of the first microbatch of the first batch."""
    return np.asarray(jax.jit(job.task.spikes)(job.params, Batch(*(a[:1] for a in job.batch(0))))[0])


def test_spikes_are_seen_in_the_order_of_the_text(job, spikes):
    model, (boundary, _) = job.task.stages.join(on_one_device(job.params))
    tokens = job.batch(0).inputs[0]
    *links, order = boundary.sender.links
    z = np.asarray(TransformChain(8, links).prepare(model.blocks[0](model.enter(tokens)), tokens))  # not sorted
    assert spikes.shape == z.shape == (2, 8, 6)
    loud = np.asarray(order.residual_norm[...])[tokens].reshape(-1)
    assert len(np.unique(loud)) > 2
    for segment, rows in enumerate(np.split(np.argsort(loud, kind="stable"), 2)):
        threshold = jnp.exp(boundary.log_threshold[...].reshape(2, 6)[segment])
        expected = boundary.codec.encoding.with_threshold(threshold).spikes(jnp.asarray(z.reshape(-1, 6)[rows]))
        np.testing.assert_array_equal(spikes.reshape(-1, 6)[rows], expected)
    assert (spikes != 0).any()


def test_what_is_frozen_kept_and_handed_on(config, job, spikes, tmp_path):
    """Without training: channels that leave the wire, the spikes of one text, and thresholds for another run."""
    rates = (spikes != 0).reshape(-1, 6).mean(0)
    left = int((rates > np.median(rates)).sum())
    params, section = job.prune(job.params, float(np.median(rates)))
    assert 0 < left < 6
    assert section["pruned"]["channels"] == [2 * 6, 2 * left]
    assert section["pruned"]["identical"]
    _write_raster(job, params, tmp_path)
    with np.load(tmp_path / "spikes.npz") as kept:
        assert kept["spikes"].shape == (1, 8, 6)
    logs = np.asarray(job.params["boundary"]["log_threshold"][...])
    assert job.thresholds(job.params)["threshold_mean"] == pytest.approx([np.exp(logs[0]).mean()])  # of one boundary
    run_dir.claim(tmp_path / "run", config, job.fingerprint(), overwrite=False)
    checkpoints.save_weights(tmp_path / "run" / "checkpoints" / "final", params)
    assert inherits(tmp_path / "run", links_of(config), [8])
    assert not inherits(tmp_path / "run", links_of(dataclasses.replace(config, token_groups=4)), [8])
    ours = weights_of(tmp_path / "run", config, links_of(config), network, job.task.stages, job.params)
    np.testing.assert_array_equal(ours["boundary"]["log_threshold"][...], params["boundary"]["log_threshold"][...])


def test_resumed_under_a_budget_it_is_the_same_program(config, job, tmp_path):
    """Its book comes from the weights that the run started from."""
    run_dir.claim(tmp_path / "run", config, job.fingerprint(), overwrite=False, origin=job.origin)
    with checkpoints.Checkpoints(tmp_path / "run" / "checkpoints") as saved:
        saved.save(5, start(job, config, job.optimizer(optimizer(config))), 0.0)
        saved.wait()
    record = run_dir.record(tmp_path / "run")
    assert record is not None
    again, _ = starting.take_up(config, tmp_path / "run", record, lambda _: None, lambda _: None)
    assert again.job.task == job.task
    assert len(job.origin) == 64


def test_a_rank_alone_is_a_bottleneck_of_fixed_size(config):
    """Any link around a basis of 4 of 8 numbers, calibrated, with nothing added to the loss."""
    fixed = dataclasses.replace(config, link="int4", budget=None, rank=4, context_tokens=0, token_groups=1)
    job = training.prepare(fixed)
    assert job.shares == (0.5, 0.5)
    assert job.task.penalty is None
    assert job.params["boundary"]["log_threshold"].shape == (2, 4)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LanguageConfig(token_groups=0), "--token-groups 0: use 1 or more"),
        (
            lambda: LanguageConfig(token_groups=8),
            "--token-groups 8 needs a learned transform: add --budget or --rank",
        ),
        (
            lambda: LanguageConfig(token_groups=7, budget=1.0, init_from="runs/dense"),
            "--token-groups 7 does not divide --seq-len 128: use a divisor, such as 8",
        ),
    ],
)
def test_what_cannot_be_is_refused(make, message):
    with pytest.raises(UsageError, match=message):
        make()


def test_a_budget_pays_for_the_tokens(config, job):
    """Of a microbatch of 2 x 8, at most as bytes and a head; they are needed to predict, and to sort."""
    assert 0 < job.context_bits <= (8 + 8 * 2 / 16) / 8
    assert not dataclasses.replace(config, context_tokens=0, token_groups=1).reads_tokens
    assert dataclasses.replace(config, context_tokens=0).reads_tokens
    assert controller_of(config, job.context_bits).bits_per_element == 3 - job.context_bits
    with pytest.raises(UsageError, match=r"--budget 3.0: the tokens that both ends of a boundary need take 3.5 bits"):
        controller_of(config, 3.5)
