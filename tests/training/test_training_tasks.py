"""Every task, mode and layout through one entry: dense results do not depend on the devices, others run."""

import dataclasses
import json
import re

import jax
import numpy as np
import pytest

import snap_jax as snap
from snap_jax import cli, training
from snap_jax.errors import UsageError
from snap_jax.parallel.gpipe import GPipe
from snap_jax.parallel.one_f_one_b import OneFOneB
from snap_jax.traffic.jaxpr import collective_traffic
from snap_jax.training import result_json, run_dir
from snap_jax.training.config import LanguageConfig, VisionConfig, command, read_settings, written_settings
from tests.support.idx_files import write_idx
from tests.support.training_jobs import write_text

PRODUCT = "data:2+pipeline:2+tensor:2"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A small run of each task; both models can be divided in two along layers, heads or channels, and rows."""
    folder, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    write_idx(folder, "train", rng, 60)
    write_idx(folder, "t10k", rng, 20)
    common = {"layers": 2, "devices": 1, "batch": 4, "microbatches": 2, "steps": 3, "learning_rate": 0.01}
    language = LanguageConfig(
        data=write_text(folder, lines=99), model="transformer", width=8, heads=2, seq_len=8, heldout_bytes=64, **common
    )
    return {"language": language, "vision": VisionConfig(data=str(folder), width=32, **common)}


def trained(config, out, **changes):
    return training.train(dataclasses.replace(config, **changes), out)


def last_line(out):
    return json.loads((out / "metrics.jsonl").read_text().splitlines()[-1])


@pytest.fixture(scope="module")
def whole(tiny, tmp_path_factory):
    """Dense, on one device."""
    out = tmp_path_factory.mktemp("whole")
    for task, config in tiny.items():
        trained(config, out / task, mode="dense")
    return out


@pytest.mark.parametrize(
    ("task", "layout", "devices"),
    [("vision", "data:2+tensor", 4), ("language", PRODUCT, 8), ("vision", "data", 2)],
)
def test_dense_results_do_not_depend_on_the_layout(tiny, whole, task, layout, devices):
    run = training.measure(dataclasses.replace(tiny[task], mode="dense", layout=layout, devices=devices))
    result, expected, found = run.result, last_line(whole / task), run.log[-1]
    assert set(run.job.shares) == {1.0}
    for name in ("loss_bits", "heldout_bits", "gradient_norm"):
        assert found[name] == pytest.approx(expected[name], rel=2e-4), name
    one_device = run_dir.finished(whole / task)
    assert one_device is not None
    assert (one_device["wire"]["forward_bytes_per_step"], one_device["cost"]) == (0, {})  # one device moves nothing
    assert result["quality"]["value"] == pytest.approx(one_device["quality"]["value"], rel=2e-4)
    wire = result["wire"]
    if layout == "data":  # nothing crosses forward; to average takes 2 (n - 1) times the 4 bytes of each parameter
        parameters = sum(a.size for a in jax.tree.leaves(run.params))
        assert (wire["forward_bytes_per_step"], wire["bits_per_element"]) == (0, 0)
        assert wire["backward_bytes_per_step"] == 4 * parameters * 2 * (devices - 1)
    else:
        assert wire["bits_per_element"] == pytest.approx(32)  # whatever crosses forward is a float
    assert set(result["cost"]) == {"UCIe standard package", "PCIe 5 x16", "400G Ethernet"}


def test_spikes_cross_every_axis_of_a_product(tiny, whole):
    """Two stages, two devices to a layer, two replicas; started from dense weights. A pipeline of 2 microbatches has 3
    ticks, in 2 of which a stage has something to sum.

    Count(3) has 7 levels, 3 bits; a sum of two has 13, 4 bits. One image a replica and microbatch is 4 * 4 * 32
    numbers, half for each device of a region. Besides, thresholds cross a boundary once, and each payload has a header.
    """
    config = dataclasses.replace(tiny["vision"], layout=PRODUCT, devices=8, init_from=str(whole / "vision"))
    run = training.measure(config)
    wire, stream, micro, ticks = run.result["wire"], 4 * 4 * 32, 2, 3
    boundary = 4 * (ticks * (stream * 3 // 8 + 1) + 4 * 32)
    region = 2 * 4 * micro * (stream // 2 * 3 // 8 + 1 + stream // 2 * 4 // 8 + 1)
    assert wire["forward_bytes_per_step"] == boundary + region
    elements = 2 * stream * (ticks * 2 * 1 + micro * 2 * 2 * 1)
    assert wire["bits_per_element"] == pytest.approx(8 * (boundary + region) / elements)
    assert [row["path"] for row in wire["by_boundary"]] == [
        "stage 0 to stage 1",
        "sums of tensor regions",
        "gradients of replicas",
    ]
    assert [row["forward_bytes"] for row in wire["by_boundary"]] == [boundary, region, 0]
    assert sum(row["backward_bytes"] for row in wire["by_boundary"]) == wire["backward_bytes_per_step"]
    gradients = wire["by_boundary"][2]["backward_bytes"]
    parameters = sum(a.size for a in jax.tree.leaves(run.params))
    assert (
        gradients < 8 * parameters
    )  # four devices hold each of them: at 32 bits the parameters of one are four times that
    assert 0 < wire["firing_rate"] < 1
    assert run.log[-1]["loss_bits"] < last_line(whole / "vision")["loss_bits"] + 1


@pytest.mark.parametrize(("mode", "layout", "devices"), [("spiking", "tensor", 2), ("hybrid", "data", 2)])
@pytest.mark.parametrize("task", ["language", "vision"])
def test_every_mode_traces_in_every_layout(tiny, task, mode, layout, devices):
    """A step, forward and back; what would run, without waiting for it to be compiled."""
    job = training.prepare(dataclasses.replace(tiny[task], mode=mode, layout=layout, devices=devices))
    (loss, _), gradient = jax.eval_shape(job.loss_and_gradient, job.params, job.batch(0), job.extra())
    assert loss.shape == ()
    rows = 2 if layout == "data" else 1  # spikes of replicas are averaged by the optimizer
    sizes = lambda tree: sum(leaf.size for leaf in jax.tree.leaves(tree))
    assert sizes(gradient) == rows * sizes(job.params)


def test_a_pipeline_schedule_changes_neither_the_loss_nor_the_bytes(tiny):
    """What the backward pass computes again is neither sent nor counted again."""
    base = dataclasses.replace(tiny["language"], devices=2)
    asked = [{}, {"remat": "full"}, {"pipeline_schedule": "1f1b"}]
    jobs = [training.prepare(dataclasses.replace(base, **flags)) for flags in asked]
    schedules = [GPipe(2, 2), GPipe(2, 2, "full"), OneFOneB(2, 2)]
    assert [job.schedule for job in jobs] == schedules
    sent = [
        collective_traffic(job.loss_and_gradient, schedule=job.schedule)(job.params, job.batch(0), job.extra())
        for job in jobs
    ]
    crossing = [traffic.where(lambda t: "boundary" in t.path) for traffic in sent]
    bytes_of = lambda way: [traffic.where(lambda t: t.direction == way).sent_bytes for traffic in crossing]
    for way in ("forward", "backward"):
        assert len(set(bytes_of(way))) == 1, way


def test_a_sum_inside_a_stage_of_1f1b_is_sent_twice_and_its_elements_count_twice(tiny):
    flags = {"mode": "dense", "layout": "pipeline:2+tensor", "devices": 4, "pipeline_schedule": "1f1b"}
    job = training.prepare(dataclasses.replace(tiny["language"], **flags))
    traffic = collective_traffic(job.loss_and_gradient, schedule=job.schedule)(job.params, job.batch(0), job.extra())
    wire = result_json.wire_section(traffic, job.mesh.shape, job.crossing_elements)
    assert wire["bits_per_element"] == pytest.approx(32)


def test_a_spiking_model_learns_images_from_the_command_line(tiny, tmp_path, capsys):
    """With a page that shows it, and a report beside a run on text."""
    data, out = tiny["vision"].data, tmp_path / "run"
    sizes = f"--layers 2 --devices 2 --width 16 --batch 12 --microbatches 2 --steps 40 --learning-rate 0.02 --out {out}"
    cli.main(["train", "vision", "--data", data, "--mode", "spiking", "--time-steps", "2", *sizes.split()])
    result = json.loads((out / "result.json").read_text())
    assert result["quality"]["metric"] == "accuracy_percent"
    assert result["quality"]["n"] == 20
    assert result["baselines"]["majority_class_percent"] == 35  # 7 of 20
    assert result["quality"]["value"] > 60
    assert result["command"].startswith(f"snap-jax train vision --data {data} --mode spiking --time-steps 2")
    assert result["config"]["task"] == "vision"
    assert "accuracy" in capsys.readouterr().out.split("step 40 of 40")[1]
    assert "% accuracy" in (out / "report.html").read_text()
    assert {"heldout_bits", "heldout_accuracy_percent", "threshold_mean"} <= last_line(out).keys()


def test_an_experiment_trains_any_links_without_a_directory(tiny):
    """11 levels take 4 bits; 3 ticks of 2 images of 4 x 4 x 32 numbers; a header each, and a threshold a channel."""
    config = dataclasses.replace(tiny["vision"], devices=2, noise=0.5)
    codec = snap.Codec(snap.Count(5, 0.5))
    found = training.measure(config, lambda *given: dataclasses.replace(training.links_of(*given), codec=codec))
    assert found.result["wire"]["forward_bytes_per_step"] == 3 * (2 * 4 * 4 * 32 * 4 // 8 + 1) + 4 * 32
    assert found.result["wire"]["bits_per_element"] <= found.result["wire"]["max_bits_per_element"]
    assert found.result["quality"]["n"] == 8 * 20  # each held-out image under eight draws of noise
    assert [line["step"] for line in found.log] == [3]
    first, again, clean = (job.batch(1).inputs for job in (found.job, found.job, training.prepare(tiny["vision"])))
    np.testing.assert_array_equal(first, again)
    assert 0.4 < float(np.std(np.asarray(first - clean))) < 0.6


def test_what_a_run_is_comes_back_from_its_record(tmp_path):
    config = VisionConfig(mode="spiking", time_steps=2, layout="data:2+pipeline")
    assert read_settings(json.loads(json.dumps(written_settings(config)))) == config
    assert read_settings({"data": "enwik8", "seq_len": 64}) == LanguageConfig(
        data="enwik8", seq_len=64
    )  # of before there were two
    run_dir.claim(tmp_path / "run", config, "data", overwrite=False)
    record = run_dir.record(tmp_path / "run")
    assert record is not None
    run_dir.check_config(tmp_path / "run", record, config)
    with pytest.raises(UsageError, match=r"the run in .* is `train vision`, not language: give another --out"):
        run_dir.check_config(tmp_path / "run", record, LanguageConfig())
    assert command(config) == "snap-jax train vision --mode spiking --time-steps 2 --layout data:2+pipeline"
    assert run_dir.how_to_resume(config, tmp_path).startswith("snap-jax train vision --mode spiking")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            "vision --mode dense --link int4",
            "--mode dense sends floats, --link int4 does not: use fp32, bf16, or",
        ),
        ("language --mode dense --grad-link int8", "--mode dense sends floats, --grad-link int8 does not"),
        (
            "language --mode spiking --link bf16",
            "sends spikes, --link bf16 does not: use --link count:3, or --mode hybrid",
        ),
        ("vision --time-steps 8", "--time-steps 8 with --mode hybrid: only neurons have them: use --mode spiking"),
        ("vision --layout rows", "layout 'rows': 'rows': use data, pipeline, tensor"),
        ("language --layout data:3", "3 devices named, 4 are there"),
        (
            "language --layout data --batch 6 --microbatches 2",
            "data: 4 replicas do not divide --batch 6: use --batch 8",
        ),
        ("language --layout tensor --devices 8", "--layout tensor: 8 devices do not divide --heads 4: use --heads 8"),
        ("vision --layout tensor", "4 devices do not divide the 2 groups of .*: use a width of 64, or fewer devices"),
        (
            "vision --budget 1 --init-from x --mode dense",
            "--budget 1.0 with --mode dense: floats have a fixed",
        ),
        (
            "vision --budget 1 --layout data",
            "--budget 1.0 with --layout data: it applies between",
        ),
        ("vision --data /no/such/folder", "neither a dataset"),
        ("language --pipeline-schedule interleaved", "--pipeline-schedule interleaved: a device of .* holds one stage"),
        ("vision --pipeline-schedule zigzag", "--pipeline-schedule zigzag: use gpipe or 1f1b"),
        ("language --pipeline-schedule 1f1b --remat full", "--remat full with --pipeline-schedule 1f1b: it computes"),
        ("language --link rows=ternary", r"--link rows=ternary: there is no axis 'rows': use data, pipeline, tensor"),
        ("language --link pipelin=ternary", r"no axis 'pipelin' \(did you mean pipeline\?\)"),
        ("language --link pipeline=int8,pipeline=int4", "pipeline comes twice: leave one out"),
        ("language --link count:3,data=ternary", "'count:3' is no AXIS=CODEC: write pipeline=count:3,data=ternary"),
        ("language --link data=ternary", "--link data=ternary with --layout pipeline: there is one device along data"),
        ("language --grad-link tensor=bf16", "--grad-link tensor=bf16 with --layout pipeline: there is one device"),
        ("language --layout data --grad-link nonsense", "link 'nonsense' is not known"),
        ("language --layout data --link ternary --grad-link count:3", "both say how replicas average gradients"),
        (
            "language --layout data:2+pipeline:2 --link data=ternary --grad-link data=count:3",
            "--link data=ternary --grad-link data=count:3 .*: both say how replicas average gradients: leave one out",
        ),
        ("language --mode dense --layout data --link data=ternary", "--mode dense sends floats, --link data=ternary"),
        ("language --local-steps 3", "--local-steps 3 with --layout pipeline: there are no replicas"),
        ("language --outer-lr 0.5", "--outer-lr 0.5 without --local-steps: add --local-steps 30"),
        ("language --layout data --local-steps 3 --outer-momentum 1", "--outer-momentum 1.0: use a rate above 0"),
        (
            "language --layout data:2+pipeline:2 --local-steps 3 --penalty bits:0.03",
            "--local-steps 3 with --penalty bits:0.03: rates are controlled in every step",
        ),
        ("vision --heldout-images -1", "--heldout-images -1: use 1 or more"),
    ],
)
def test_a_contradiction_is_one_line(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        cli.main(["train", *arguments.split()])
    assert stop.value.code == 2
    said = capsys.readouterr().err.strip()
    assert "\n" not in said
    assert re.search(message, said), said
    assert list(tmp_path.iterdir()) == []


def test_weights_of_another_task_or_other_images(tiny, whole, tmp_path):
    start = lambda **changes: training.prepare(dataclasses.replace(tiny["vision"], **changes))
    with pytest.raises(UsageError, match="that is a run of `train language`: start from a run of `train vision`"):
        start(init_from=str(whole / "language"))
    with pytest.raises(UsageError, match=r"other shapes|another model"):
        start(init_from=str(whole / "vision"), data="digits")
    spiking = start(init_from=str(whole / "vision"), mode="spiking", devices=2)  # its blocks are those of the dense run
    dense = start(init_from=str(whole / "vision"), mode="dense")
    ours, theirs = (np.asarray(job.params["model"]["head"]["kernel"][...])[-1] for job in (spiking, dense))
    np.testing.assert_array_equal(ours, theirs)
