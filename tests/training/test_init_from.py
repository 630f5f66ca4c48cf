"""Weights moved to another number of devices: the same model, and thresholds where they still belong."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from snap_jax import training
from snap_jax.boundary import Threshold
from snap_jax.errors import UsageError
from snap_jax.models.split import split
from snap_jax.training import checkpoints, run_dir
from snap_jax.training.config import LanguageConfig
from snap_jax.training.optimizer import optimizer
from snap_jax.training.train_step import start
from tests.support.training_jobs import write_text


@pytest.fixture(scope="module", autouse=True)
def compiled_fast():
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return LanguageConfig(
        data=write_text(tmp_path_factory.mktemp("data")),
        model="transformer", link="fp32", layers=4, devices=4, width=8, heads=2, seq_len=8, batch=2, microbatches=2,
        heldout_bytes=256,
    )  # fmt: skip


def saved(config, out, finished=True):
    """A run of weights that no run starts from; with thresholds, those of boundary `i` are `i + 2`."""
    job = training.prepare(config)
    draw = np.random.default_rng(0)
    params = jax.tree.map(lambda a: np.asarray(a + 0.1 * draw.normal(size=a.shape), np.float32), job.params)
    model, boundaries = job.task.stages.join(params)
    for i, boundary in enumerate(boundaries):
        if boundary.codec is not None:
            boundary.log_threshold = Threshold(jnp.full(config.width, np.log(i + 2.0)))
    _, params = split(model, boundaries)  # as a run keeps it: all stages hold the same copies of the two ends
    run_dir.claim(out, config, job.fingerprint(), overwrite=False)
    if finished:
        checkpoints.save_weights(out / "checkpoints" / "final", params)
        return
    with checkpoints.Checkpoints(out / "checkpoints") as kept:
        kept.save(7, dataclasses.replace(start(job, config, optimizer(config)), params=params), 0.0)
        kept.wait()


@pytest.fixture(scope="module")
def dense(config, tmp_path_factory):
    out = tmp_path_factory.mktemp("dense") / "run"
    saved(config, out)
    return str(out)


@pytest.fixture(scope="module")
def spiking(config, tmp_path_factory):
    out = tmp_path_factory.mktemp("spiking") / "run"
    saved(dataclasses.replace(config, link="count:2"), out)
    return str(out)


def test_dense_evaluation_does_not_depend_on_the_devices(config, dense):
    """Restored on 4, 2 and 1 devices; and it is not what fresh parameters give."""
    measured = []
    for devices in (4, 2, 1):
        job = training.prepare(dataclasses.replace(config, devices=devices, init_from=dense))
        measured.append(training.evaluate(job, job.params, job.heldout[:8])[0])
    np.testing.assert_allclose(measured, measured[0], rtol=1e-6)
    fresh = training.prepare(dataclasses.replace(config, devices=1)).params
    assert abs(training.evaluate(job, fresh, job.heldout[:8])[0] - measured[0]) > 1e-3


def test_of_a_stopped_run_the_last_checkpoint_is_taken(config, dense, tmp_path):
    saved(config, tmp_path / "run", finished=False)
    first, second = (
        training.prepare(dataclasses.replace(config, init_from=str(out))).params for out in (dense, tmp_path / "run")
    )
    jax.tree.map(np.testing.assert_array_equal, first, second)


def thresholds(config, **changes):
    job = training.prepare(dataclasses.replace(config, **changes))
    return np.exp(job.params["boundary"]["log_threshold"][...])[:, 0].tolist()


@pytest.mark.parametrize(
    ("devices", "expected"),
    [
        (4, [2, 3, 4, 5]),  # behind layers 1, 2, 3, 4
        (2, [3, 5]),  # behind layers 2 and 4
        (1, [5]),  # behind layer 4
    ],
)
def test_a_boundary_keeps_its_threshold_behind_the_same_layer(config, spiking, devices, expected):
    assert thresholds(config, link="count:2", devices=devices, init_from=spiking) == pytest.approx(expected)


def test_other_boundaries_start_fresh(config, spiking, dense, tmp_path):
    """Calibrated after another encoding or none; the default for two of four boundaries, which another run had not."""
    for changes in ({"link": "count:3", "init_from": spiking}, {"link": "count:2", "init_from": dense}):
        found, default = thresholds(config, **changes), thresholds(config, link=changes["link"])[0]
        assert all(value != pytest.approx(default) for value in found)
        assert not {2.0, 3.0, 4.0, 5.0} & {round(value, 3) for value in found}
    saved(dataclasses.replace(config, link="count:2", devices=2), tmp_path / "two")
    fresh = thresholds(config, link="count:2")
    expected = [fresh[0], 2, fresh[2], 3]
    assert thresholds(config, link="count:2", init_from=str(tmp_path / "two")) == pytest.approx(expected)


def test_another_wire_is_no_other_threshold(config, spiking):
    assert thresholds(config, link="count:2+ladder", init_from=spiking) == pytest.approx([2, 3, 4, 5])


def test_weights_that_do_not_fit(config, spiking, tmp_path):
    with pytest.raises(UsageError, match=r"--init-from .*run: it has --width 8, not 16: use --width 8"):
        training.prepare(dataclasses.replace(config, width=16, init_from=spiking))
    with pytest.raises(UsageError, match=r"this is no run directory \(.*\): give the --out of a run"):
        training.prepare(dataclasses.replace(config, init_from=str(tmp_path)))
    run_dir.claim(tmp_path / "empty", config, "data", overwrite=False)
    with pytest.raises(UsageError, match=r"it has no checkpoint: give the --out of a run that has saved one"):
        training.prepare(dataclasses.replace(config, init_from=str(tmp_path / "empty")))
