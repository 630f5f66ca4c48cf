"""`snap-jax eval`: the numbers of the final evaluation, on the run's devices and on one; other data; mistakes."""

import json
import re

import pytest

from snap_jax import cli, training
from snap_jax.errors import UsageError
from snap_jax.inference import evaluate, load
from snap_jax.inference.held_out import table_rows
from snap_jax.training import run_dir
from snap_jax.training.config import LanguageConfig, VisionConfig
from tests.support.training_jobs import write_text

AS_TRAINED = ("bits_per_element", "entropy_bits_per_element", "firing_rate")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_text(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def text_run(data, tmp_path_factory):
    """Two stages, an average of the parameters, 61 windows: so the last batch of 32 is filled up."""
    out = tmp_path_factory.mktemp("runs") / "text"
    sizes = {"devices": 2, "layers": 2, "width": 8, "heads": 2, "streams": 2, "seq_len": 16, "batch": 4}
    config = LanguageConfig(data=data, link="count:2", microbatches=2, steps=10, save_every=5, ema=0.9, **sizes)
    return out, training.train(config, out)


@pytest.fixture(scope="module")
def image_run(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "images"
    config = VisionConfig(devices=2, layers=2, width=8, batch=16, microbatches=2, steps=10, heldout_images=40)
    return out, training.train(config, out)


@pytest.mark.parametrize("which", ["text_run", "image_run"])
def test_it_repeats_the_final_evaluation(which, request):
    """Bit for bit on as many devices; on one, which only quantizes, to float rounding."""
    out, result = request.getfixturevalue(which)
    held = evaluate(load(out))
    assert held.quality == result["quality"]
    assert held.baselines == result["baselines"]
    assert held.repeat_seconds == ()
    assert {name: getattr(held, name) for name in AS_TRAINED} == {name: result["wire"][name] for name in AS_TRAINED}
    alone = evaluate(load(out, devices=1))
    assert alone.quality["value"] == pytest.approx(held.quality["value"], rel=1e-5)
    assert (alone.payload_bytes, alone.dense_bytes) == (held.payload_bytes, held.dense_bytes)


@pytest.mark.parametrize("which", ["text_run", "image_run"])
def test_repetitions_are_timed(which, request):
    """Two, on all held-out data; the table says how many predictions that is in a second."""
    loaded = load(request.getfixturevalue(which)[0])
    held = evaluate(loaded, repeat=2)
    assert len(held.repeat_seconds) == 2
    rows = dict(table_rows(loaded, held, "heldout", None))
    per_second = held.quality["n"] / (sum(held.repeat_seconds) / 2)
    assert rows[f"{loaded.config.unit}s per second"] == f"{per_second:,.1f}"
    with pytest.raises(UsageError, match="--repeat -1: use 0 or more"):
        evaluate(loaded, repeat=-1)


def test_bytes_are_those_of_the_messages(text_run, data):
    """Batches of 4 x 8 windows of 16 tokens, 8 channels, 5 levels in 3 bits, one header per message of 8 windows."""
    held = evaluate(load(text_run[0]), batches=1)
    elements = 32 * 16 * 8
    assert held.dense_bytes == 4 * elements
    assert held.payload_bytes == elements * 3 // 8 + 4
    assert held.quality["n"] == 32 * 16


def test_other_data_and_training_data(text_run, data, tmp_path):
    """A text of 0 bytes only is unlike what was learned."""
    other = tmp_path / "zeros.txt"
    other.write_bytes(b"\t" * 2000)
    loaded = load(text_run[0])
    own, there = (evaluate(loaded, data=name, split="train", batches=1) for name in (None, str(other)))
    assert own.quality["value"] < there.quality["value"]
    assert there.baselines["order0_bits_per_byte"] == 0


def test_another_link_and_another_checkpoint(text_run):
    """Dense links send 32 bits; the averaged weights after 5 steps are not those after 10."""
    out, result = text_run
    dense = evaluate(load(out, link="dense"), batches=1)
    assert (dense.bits_per_element, dense.payload_bytes) == (32.0, dense.dense_bytes)
    assert evaluate(load(out, link="int8:channel"), batches=1).bits_per_element == pytest.approx(8, rel=0.1)
    assert evaluate(load(out, checkpoint=10)).quality["value"] == pytest.approx(result["quality"]["value"], rel=1e-6)
    assert evaluate(load(out, checkpoint=5)).quality["value"] != result["quality"]["value"]


def test_the_command_prints_a_table_or_json(text_run, capsys):
    out, result = text_run
    cli.main(["eval", str(out)])
    shown = capsys.readouterr().out
    assert f"{result['quality']['value']:.4f} of" in shown
    assert max(map(len, shown.splitlines())) <= 80
    cli.main(["eval", str(out), "--json", "--batches", "1"])
    assert json.loads(capsys.readouterr().out)["link"] == "count:2"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--checkpoint 7", r"--checkpoint 7: .* has 5, 10: use one of them"),
        ("--devices 3", "--devices 3: the run has 2: use 2, or 1"),
        ("--batches 0", "--batches 0: use 1 or more"),
        ("--link fp3", r"link 'fp3' is not known \(did you mean fp32\?\)"),
        ("--link bf16 --checkpoint 5", "--link bf16 with --checkpoint 5: another link starts from the final weights"),
        ("--data /no/such/text", "neither a dataset"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(text_run, flags, message, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["eval", str(text_run[0]), *flags.split()])
    said = capsys.readouterr().err.strip()
    assert (stop.value.code, said.count("\n")) == (2, 0)
    assert re.search(message, said)


def test_what_is_no_run_is_refused(tmp_path, data):
    with pytest.raises(UsageError, match=r"is no run directory .*: give the --out of a run"):
        load(tmp_path)
    config = LanguageConfig(data=data, devices=1, layers=1, width=8, heads=2, seq_len=64, steps=1)
    run_dir.claim(tmp_path / "new", config, "", overwrite=False)
    with pytest.raises(UsageError, match="has no checkpoint yet: wait until the run has saved one"):
        load(tmp_path / "new")
