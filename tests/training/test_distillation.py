"""Teachers: what is minimised and what is reported; the layout does not matter; resumed bit for bit; refusals."""

import dataclasses
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from snap_jax import training
from snap_jax.errors import UsageError
from snap_jax.traffic.hlo import compiled_traffic
from snap_jax.training import checkpoints, run_dir, starting
from snap_jax.training.config import LanguageConfig, VisionConfig
from snap_jax.training.distillation import teacher_of
from snap_jax.training.optimizer import optimizer
from snap_jax.training.tasks import assemble
from snap_jax.training.tasks.layout import Layout
from snap_jax.training.tasks.losses import Distilled, losses, teacher_logits
from snap_jax.training.train_step import batches_of, compile_step, start
from tests.support import small_networks
from tests.support.training_jobs import save_untrained, write_text

WEIGHT = 0.75


@pytest.fixture(scope="module")
def dense(tmp_path_factory):
    """A dense run whose weights no run starts from, and the config of one that it teaches."""
    out = tmp_path_factory.mktemp("runs")
    config = LanguageConfig(
        data=write_text(out), mode="dense", model="transformer", layers=2, devices=1, width=8, heads=2, seq_len=8,
        batch=4, microbatches=2, steps=20, heldout_bytes=64, accumulate=2,
    )  # fmt: skip
    save_untrained(config, out / "dense", moved=0.3)
    return dataclasses.replace(config, init_from=str(out / "dense"))


def test_what_is_minimised_and_what_is_reported():
    """`(1 - W) CE(label) + W CE(teacher)`, and the first of them without its weight."""
    logits, theirs = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, 5)), jnp.float32)
    labels = jnp.array([4, 0, 2])
    own, minimised = losses(logits, Distilled(labels, teacher_logits(theirs, labels, WEIGHT)))
    said = jax.nn.log_softmax(logits)
    expected = -sum(said[i, label] for i, label in enumerate(labels))
    soft = -(jax.nn.softmax(theirs) * said).sum()
    assert float(own) == pytest.approx(float(expected), rel=1e-5)
    assert float(minimised) == pytest.approx(float((1 - WEIGHT) * expected + WEIGHT * soft), rel=1e-5)
    assert losses(logits, labels) == (own,)


def step_of(config):
    """Loss, gradient's norm and all parameters after one step; the traffic of the step."""
    job = training.prepare(config)
    rule = job.optimizer(optimizer(config))
    state = start(job, config, rule)
    step = compile_step(job, config, rule, state)
    traffic = compiled_traffic(step, job.mesh)
    _, measured = step(state, batches_of(job, config, 0))
    return job, (float(measured.loss), float(measured.gradient_norm)), traffic


def test_in_every_layout_who_is_his_own_teacher_learns_from_the_data_alone(dense):
    """What the teacher says is made where it is asked for: the step moves no more, beside it its own hops cross."""
    config = dataclasses.replace(dense, layout="data:2+pipeline:2+tensor:2", devices=8)
    job, found, traffic = step_of(dataclasses.replace(config, distill=WEIGHT))
    _, (loss, norm), plain = step_of(config)
    assert found == pytest.approx((loss, (1 - WEIGHT) * norm), rel=1e-3)
    assert traffic == plain
    # Two batches a step, 4 bytes of each element.
    assert job.teacher_section() == {
        "teacher": {"run": dense.init_from, "bytes_per_step": 2 * 4 * job.crossing_elements}
    }


def test_resumed_it_is_the_run_as_long_as_its_teacher_is(dense, tmp_path):
    home, out = tmp_path / "dense", tmp_path / "run"
    shutil.copytree(dense.init_from, home)
    config = dataclasses.replace(dense, init_from=str(home), distill=WEIGHT)
    run, state = starting.begin(config, out, False, lambda _: None)
    step = compile_step(run.job, config, run.optimizer, state)
    state, _ = step(state, batches_of(run.job, config, 0))
    with checkpoints.Checkpoints(out / "checkpoints") as saved:
        saved.save(1, state, 0.0)
        saved.wait()
    whole, _ = step(state, batches_of(run.job, config, 1))
    resume = lambda: starting.take_up(config, out, run_dir.record(out), lambda _: None, lambda _: None)
    again, state = resume()
    assert int(state.step) == 1
    resumed, _ = step(state, batches_of(again.job, config, 1))
    jax.tree.map(np.testing.assert_array_equal, resumed, whole)
    other = jax.tree.map(lambda a: np.asarray(a) * 1.001, whole.params)
    checkpoints.save_weights(home / "checkpoints" / "final", other)
    with pytest.raises(UsageError, match=r"--resume: --init-from .*dense has changed since the run in .* began"):
        resume()
    shutil.rmtree(home)
    with pytest.raises(UsageError, match=r"--init-from .*dense: this is no run directory"):
        resume()


def test_networks_whose_blocks_differ_are_taught_too():
    """By themselves, so only the data's share of the gradient is left."""
    task, params = assemble.build(small_networks.build("plain"), Layout(pipeline=3), None, None)
    batch = small_networks.images(size=8)
    said = jax.jit(lambda p, b: task.teacher_logits(p, b, WEIGHT))(params, batch)
    labels = jnp.broadcast_to(jax.nn.one_hot(batch.labels, said.shape[-1]), said.shape)
    gradient = jax.jit(lambda p, b: task.loss_and_gradient(p, b)[1]["stages"])
    data, both = (gradient(params, batch._replace(labels=Distilled(batch.labels, asked))) for asked in (labels, said))
    np.testing.assert_allclose(both, (1 - WEIGHT) * data, atol=1e-6)
    assert np.abs(data).max() > 1e-3


def test_only_dense_runs_teach(dense, tmp_path):
    run_dir.claim(tmp_path / "run", dataclasses.replace(dense, mode="hybrid", link="count:2"), "data", False)
    with pytest.raises(UsageError, match=r"--distill 0.5: the run in .*run sends count:2, a teacher must be dense:"):
        teacher_of(dataclasses.replace(dense, init_from=str(tmp_path / "run"), distill=0.5), training.prepare)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LanguageConfig(distill=1.5), r"--distill 1\.5: use a weight above 0 and up to 1, such as 0.5"),
        (
            lambda: LanguageConfig(distill=0.5),
            "the dense run to start from: train one with --link fp32 first, then give its --out",
        ),
        (lambda: VisionConfig(distill=-0.1, init_from="runs/dense"), "--distill -0.1: use a weight"),
    ],
)
def test_what_cannot_be_is_refused(make, message):
    with pytest.raises(UsageError, match=message):
        make()
