"""Networks whose stream changes its shape, trained from a config: the same in every layout, resumed, and moved."""

import dataclasses
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from snap_jax import cli, training
from snap_jax.models import efficientnet, resnet
from snap_jax.traffic.jaxpr import collective_traffic
from snap_jax.training import checkpoints, result_json, run_dir
from snap_jax.training.config import VisionConfig, read_settings
from tests.support.idx_files import write_idx
from tests.support.small_networks import STAGES


@pytest.fixture(scope="module", autouse=True)
def two_blocks():
    """All models with two blocks that differ, which compile in a quarter of the time and less."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resnet, "resnet18", lambda **sizes: resnet.ResNetConfig(stages=(1, 1), **sizes))
        patch.setattr(efficientnet, "B0", STAGES)
        yield


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    write_idx(folder, "train", rng, 60)
    write_idx(folder, "t10k", rng, 20)
    sizes = {"width": 8, "batch": 4, "microbatches": 2, "steps": 3, "learning_rate": 0.01, "save_every": 1}
    return VisionConfig(data=str(folder), model="resnet18", mode="dense", devices=1, **sizes)


@pytest.fixture(scope="module")
def whole(config, tmp_path_factory):
    """Dense, on one device."""
    out = tmp_path_factory.mktemp("whole") / "run"
    training.train(config, out)
    return out


@pytest.fixture(scope="module")
def two_stages(config, tmp_path_factory):
    """With spikes, from the command line, and resumed before the last step."""
    out = tmp_path_factory.mktemp("stages") / "run"
    changed = dataclasses.replace(config, mode="hybrid", devices=2)
    flags = [f"--{n.replace('_', '-')}={v}" for n, v in dataclasses.asdict(changed).items() if v is not None]
    cli.main(["train", "vision", *flags, "--out", str(out)])
    return out


def weights(out):
    path, _ = checkpoints.last_good(out / "checkpoints")
    assert path is not None
    return checkpoints.arrays(path)


def metrics(out):
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def test_dense_results_do_not_depend_on_the_stages(config, whole, tmp_path):
    training.train(dataclasses.replace(config, devices=4, layout="data:2+pipeline"), tmp_path / "run")
    for name in ("loss_bits", "heldout_bits", "gradient_norm"):
        assert metrics(tmp_path / "run")[-1][name] == pytest.approx(metrics(whole)[-1][name], rel=2e-4), name


def test_a_run_on_two_stages_says_what_crossed(two_stages):
    """Behind the first block of 8 channels 4 x 4 places of 2 images; 2 microbatches, so 3 ticks."""
    wire, size = json.loads((two_stages / "result.json").read_text())["wire"], 2 * 4 * 4 * 8
    [boundary] = wire["by_boundary"]
    assert boundary["path"] == "stage 0 to stage 1"
    assert boundary["forward_bytes"] == wire["forward_bytes_per_step"] == 3 * (size * 3 // 8 + 1) + 4 * 8
    assert boundary["backward_bytes"] == 3 * (size * 2 + 1)
    assert wire["max_bits_per_element"] == pytest.approx(8 * boundary["forward_bytes"] / (3 * size))
    assert 0 < boundary["firing_rate"] < 1
    assert len(metrics(two_stages)[-1]["threshold_mean"]) == 1
    page = (two_stages / "report.html").read_text()
    assert "stage 0 to stage 1" in page
    assert "at boundary 1 for a held-out image" in page
    with np.load(two_stages / "spikes.npz") as kept:
        assert kept["spikes_1"].shape == (1, 4, 4, 8)


def test_two_stages_of_two_chips_say_what_crosses_and_hand_their_weights_on(config, tmp_path):
    """Behind the first block 32 channels at 4 x 4 places of 2 images, behind the second 64 at 2 x 2; 2 microbatches.

    What goes on crosses in 3 ticks from two devices, a sum in 2: halves as spikes of 3 bits, then the sum of 4 bits.
    """
    wide = dataclasses.replace(config, mode="hybrid", width=32, devices=4, layout="pipeline:2+tensor")
    job = training.prepare(wide)
    traffic = collective_traffic(job.loss_and_gradient, schedule=job.schedule)(job.params, job.batch(0), job.extra())
    wire = result_json.wire_section(traffic, job.mesh.shape, job.crossing_elements)
    streams = [2 * 4 * 4 * 32, 2 * 2 * 2 * 64]
    hop = 2 * (3 * (streams[0] * 3 // 8 + 1) + 4 * 32)
    sums = 2 * sum(2 * (size // 2 * 3 // 8 + 1 + size // 2 * 4 // 8 + 1) for size in streams)
    assert [(row["path"], row["forward_bytes"]) for row in wire["by_boundary"]] == [
        ("stage 0 to stage 1", hop),
        ("sums of tensor regions", sums),
    ]
    assert wire["bits_per_element"] == 8 * (hop + sums) / (2 * 3 * streams[0] + 2 * 2 * sum(streams))
    run_dir.claim(tmp_path, wide, job.fingerprint(), overwrite=False)
    other = jax.tree.map(lambda p: p + 1, job.params)
    checkpoints.save_weights(tmp_path / "checkpoints" / "final", other)
    again = dataclasses.replace(wide, init_from=str(tmp_path))
    one = dataclasses.replace(again, mode="dense", devices=1, layout="pipeline")
    moved, alone = (training.prepare(start) for start in (again, one))
    jax.tree.map(np.testing.assert_array_equal, joined(moved), joined(moved, other))
    blocks = dict(nnx.to_flat_state(joined(moved)["model"]))
    for path, leaf in nnx.to_flat_state(joined(alone)["model"]):
        np.testing.assert_array_equal(leaf, blocks[path])


def joined(job, params=None):
    """All that a model and its boundaries learn, on the host."""
    model, boundaries = job.task.stages.join(jax.tree.map(np.asarray, job.params if params is None else params))
    return {"model": nnx.state(model), "boundaries": [nnx.state(boundary) for boundary in boundaries]}


def test_a_stopped_run_goes_on_as_if_it_had_not(two_stages, tmp_path):
    out, final = tmp_path / "run", weights(two_stages)
    shutil.copytree(two_stages, out)
    shutil.rmtree(out / "checkpoints" / "final")
    (out / "result.json").unlink()
    shutil.rmtree(out / "checkpoints" / "3")
    training.train(read_settings(json.loads((out / "run.json").read_text())["config"]), out, resume=True)
    jax.tree.map(np.testing.assert_array_equal, weights(out), final)


def test_weights_move_between_one_device_and_stages(config, whole, two_stages):
    def start(source, **changes):
        job = training.prepare(dataclasses.replace(config, init_from=str(source), **changes))
        return job.task.stages.join(jax.tree.map(np.asarray, job.params))

    here, _ = start(whole)
    there, fresh = start(whole, devices=2, mode="hybrid")
    jax.tree.map(np.testing.assert_array_equal, nnx.state(there), nnx.state(here))
    back, [learned, _] = start(two_stages, devices=2, mode="hybrid")
    alone, _ = start(two_stages)
    jax.tree.map(np.testing.assert_array_equal, nnx.state(back), nnx.state(alone))
    assert np.abs(learned.log_threshold[...] - fresh[0].log_threshold[...]).min() > 0  # it moved, and is kept


@pytest.mark.parametrize(
    ("model", "mode", "layout", "devices"),
    [
        ("resnet18", "spiking", "pipeline", 2),
        ("resnet18", "hybrid", "data:2+pipeline", 4),
        ("efficientnet-b0", "spiking", "tensor", 8),
        ("efficientnet-b0", "hybrid", "pipeline", 2),
        ("efficientnet-b0", "spiking", "data:2+pipeline:2+tensor", 8),
    ],
)
def test_every_mode_traces_in_every_layout(config, model, mode, layout, devices):
    """A step, forward and back; what would run, without waiting for it to be compiled."""
    job = training.prepare(dataclasses.replace(config, model=model, mode=mode, layout=layout, devices=devices))
    (loss, _), gradient = jax.eval_shape(job.loss_and_gradient, job.params, job.batch(0), job.extra())
    assert loss.shape == ()
    rows = 2 if "data" in layout else 1
    sizes = lambda tree: sum(leaf.size for leaf in jax.tree.leaves(tree))
    assert sizes(gradient) == rows * sizes(job.params)
    rule = job.optimizer(optax.sgd(0.1))
    updates, _ = jax.eval_shape(lambda g: rule.update(g, rule.init(job.params), job.params), gradient)
    assert jax.tree.map(jnp.shape, updates) == jax.tree.map(jnp.shape, job.params)
