"""Errors in a run directory are named; no half-written page is left."""

import io
import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from snap_jax.errors import UsageError
from snap_jax.report import table, write_report
from tests.support.report_runs import make_run, two_runs

runs = pytest.fixture(two_runs)

BAD_RESULTS = [
    ({("quality", "value"): "low"}, "quality.value is 'low', not a number"),
    ({("quality", "value"): True}, "quality.value is True, not a number"),
    ({("quality", "metric"): None}, "quality.metric is None, not a string"),
    ({("quality",): None}, "quality is None, not an object"),
    ({("wire",): []}, r"wire is \[\], not an object"),
    (
        {("wire", "forward_bytes_per_step"): -1},
        "wire.forward_bytes_per_step is -1: input should be greater than or equal to 0",
    ),
    ({("wire", "by_boundary"): {"a": 1}}, "wire.by_boundary is .*, not a list"),
    ({("wire", "by_boundary"): [{"path": 3}]}, r"wire.by_boundary\[0\].path is 3, not a string"),
    (
        {("cost", "ring", "energy_j_per_step"): 3.0},
        r"cost.ring.energy_j_per_step is 3.0, not a list",
    ),
    (
        {("cost", "ring", "latency_s_per_step"): [1, "x"]},
        r"cost.ring.latency_s_per_step\[1\] is 'x', not a number",
    ),
]


@pytest.mark.parametrize(("changes", "message"), BAD_RESULTS)
def test_a_malformed_result_is_named(tmp_path, changes, message):
    path = make_run(tmp_path, "run", changes)
    for report in (table, lambda runs: write_report(runs, tmp_path / "r.html")):
        with pytest.raises(UsageError, match=rf"run/result\.json: {message}: run the training again"):
            report([path])
    assert not (tmp_path / "r.html").exists()


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("result.json", b"{", "run/result.json is not JSON"),
        ("result.json", b"[1]", "run/result.json holds list, not an object"),
        ("result.json", b"\xff\xfe", "cannot read .*run/result.json"),
        ("metrics.jsonl", b'{"step": 1}\n{"step"', "run/metrics.jsonl, line 2, is not JSON"),
        ("metrics.jsonl", b'{"loss_bits": 1}', "run/metrics.jsonl: line 1.step is missing"),
        (
            "metrics.jsonl",
            b'{"step": 1, "threshold_mean": [1, "x"]}',
            r"line 1.threshold_mean\[1\] is 'x', not a number",
        ),
        ("spikes.npz", b"PK torn", "cannot read .*run/spikes.npz"),
        ("spikes.npz", b"", "cannot read .*run/spikes.npz"),
    ],
)
def test_a_malformed_file_is_named(tmp_path, file, content, message):
    path = make_run(tmp_path, "run")
    (path / file).write_bytes(content)
    with pytest.raises(UsageError, match=message) as error:
        table([path])
    assert "\n" not in str(error.value)


def test_paths_of_the_user_are_not_in_the_page(tmp_path):
    """A page is shared: of absolute paths the last part stays, those relative to a project stay whole."""
    changes = {("config", "data"): "/home/me/secret/text.txt", ("config", "init_from"): "runs/dense"}
    path = make_run(tmp_path, "run", changes)
    result = json.loads((path / "result.json").read_text())
    result["command"] = "snap-jax train language --data /home/me/secret/text.txt --out ~/secret/run"
    (path / "result.json").write_text(json.dumps(result))
    write_report([path], tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "text.txt" in page
    assert "secret" not in page
    assert str(tmp_path) not in page


@pytest.mark.parametrize(
    "arrays",
    [
        {"text": np.zeros(3, np.uint8)},
        {"text": np.zeros(3, np.uint8), "spikes": np.zeros((1, 4, 2), np.int8)},
        {"text": np.zeros(3, np.uint8), "spikes": np.zeros((3, 2), np.int8)},
        {"text": np.zeros(3, np.uint8), "spikes": np.zeros((1, 3, 2), np.float32)},
        {"text": np.zeros(3, np.int32), "spikes": np.zeros((1, 3, 2), np.int8)},
        {"image": np.zeros((2, 2, 1), np.uint8), "spikes": np.zeros((1, 1, 2, 2, 2), np.int8)},
        {"image": np.zeros((2, 2, 1), np.uint8), "label": np.int32(0), "spikes": np.zeros((1, 2, 2, 2), np.int8)},
        {"image": np.zeros((2, 2), np.uint8), "label": np.int32(0), "spikes": np.zeros((1, 1, 2, 2, 2), np.int8)},
    ],
)
def test_spikes_of_another_shape_are_refused(tmp_path, arrays):
    with pytest.raises(UsageError, match=r"run/spikes\.npz"):
        table([make_run(tmp_path, "run", spikes=arrays)])


def test_no_run_directory_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"nowhere is not a run directory, it has no .*: give the --out"):
        table([Path("nowhere")])
    with pytest.raises(UsageError, match="report of no runs"):
        table([])


def test_an_unwritable_page_is_named_and_nothing_is_left(runs, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UsageError, match=r"cannot write --out .*/report.*: give a writable path"):
        write_report(runs, tmp_path / "file" / "report.html")
    with pytest.raises(UsageError, match=r"is a directory: name a file in it, such as .*dense/report\.html"):
        write_report(runs, tmp_path / "dense")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dense", "file", "spiking"]


def test_only_a_page_is_overwritten(runs, tmp_path):
    text = tmp_path / "thesis.txt"
    text.write_text("years of work")
    with pytest.raises(UsageError, match=r"--out .*thesis.txt is a file of something else and is not overwritten"):
        write_report(runs, text)
    assert text.read_text() == "years of work"
    write_report(runs, tmp_path / "page.html")
    before = (tmp_path / "page.html").read_text(encoding="utf-8")
    write_report(runs[:1], tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text(encoding="utf-8") != before


def test_a_page_goes_through_links_and_into_devices(runs, tmp_path):
    """A link stays a link, /dev/null stays a device, and a pipe gets the page."""
    (tmp_path / "link.html").symlink_to(tmp_path / "page.html")
    write_report(runs, tmp_path / "link.html")
    assert (tmp_path / "link.html").is_symlink()
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    write_report(runs, Path("/dev/null"))
    assert Path("/dev/null").is_char_device()
    os.mkfifo(tmp_path / "pipe")
    with subprocess.Popen(["cat", tmp_path / "pipe"], stdout=subprocess.PIPE, text=True) as reader:
        write_report(runs, tmp_path / "pipe")
        assert reader.stdout.read() == page


def test_the_page_goes_into_a_new_directory_whole(runs, tmp_path):
    write_report(runs, tmp_path / "new" / "deep" / "report.html")
    assert [path.name for path in (tmp_path / "new" / "deep").iterdir()] == ["report.html"]


def test_markup_and_escape_codes_from_files_are_plain_text_in_the_terminal(tmp_path):
    changes = {("cost", "far", "energy_note"): "[/x] [red]why\x1b[31m", ("config", "link"): "int[4]\x1b]8"}
    console = Console(width=120, file=io.StringIO())
    console.print(table([make_run(tmp_path, "run", changes)]))
    shown = console.file.getvalue()
    assert "[/x] [red]why [31m" in shown
    assert "int[4] ]8" in shown
    assert "\x1b" not in shown
