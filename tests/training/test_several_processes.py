"""Training in two processes: files that one wrote, the numbers of a single process, and what a fault of one does."""

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from snap_jax import inference, training
from snap_jax.training import checkpoints, run_dir
from snap_jax.training.config import command
from tests.support.two_faults import CONFIG


@pytest.fixture(scope="module")
def divided(tmp_path_factory) -> Path:
    """A run of two processes with one device each."""
    out = tmp_path_factory.mktemp("runs") / "two"
    arguments = [*command(CONFIG).split()[1:], "--out", str(out)]
    program = [sys.executable, "-m", "snap_jax"]
    ended = subprocess.run(
        [*program, "launch", "-n", "2", "--", *program, *arguments],
        capture_output=True,
        text=True,
        env=os.environ | {"JAX_NUM_CPU_DEVICES": "1"},
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "[0] snap-jax: step 20 of 20" in ended.stdout
    assert "[1] snap-jax" not in ended.stdout  # the first process talks
    return out


def test_a_run_directory_is_written_once(divided):
    """Nothing half-written is left, and nothing is there twice."""
    assert not list(divided.rglob("*.partial"))
    assert len(list(divided.glob("events*"))) == 1
    assert [json.loads(line)["step"] for line in (divided / "metrics.jsonl").read_text().splitlines()] == [10, 20]
    assert run_dir.finished(divided)["training"]["steps"] == 20
    assert [checkpoints.fault(divided / "checkpoints" / name) for name in ("10", "20", "final")] == ["", "", ""]


def test_one_process_goes_on_where_two_stopped(divided, tmp_path):
    """Ten more steps in this process end with the numbers of the two, so steps and checkpoints are the same."""
    out = tmp_path / "one"
    shutil.copytree(divided, out, ignore=shutil.ignore_patterns("20", "final", "result.json", "spikes.npz"))
    result = training.train(CONFIG, out, resume=True)
    assert result["training"]["resumed_at"] == [10]
    for name in ("quality", "wire"):
        assert result[name] == run_dir.finished(divided)[name]
    ours, theirs = (checkpoints.arrays(path / "checkpoints" / "20") for path in (out, divided))
    assert ours.keys() == theirs.keys()
    for path, array in theirs.items():
        np.testing.assert_array_equal(ours[path], array, err_msg=path)
    assert (out / "spikes.npz").read_bytes() == (divided / "spikes.npz").read_bytes()


def test_two_processes_and_one_evaluate_alike(divided):
    """`snap-jax eval` prints the numbers of the final evaluation, once, from two processes; and so does one."""
    program = [sys.executable, "-m", "snap_jax"]
    ended = subprocess.run(
        [*program, "launch", "-n", "2", "--", *program, "eval", str(divided), "--json"],
        capture_output=True,
        text=True,
        env=os.environ | {"JAX_NUM_CPU_DEVICES": "1"},
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    found = [json.loads(line.removeprefix("[0] ")) for line in ended.stdout.splitlines() if line.startswith("[0] {")]
    result = run_dir.finished(divided)
    assert [line["quality"] for line in found] == [result["quality"]]
    assert found[0]["bits_per_element"] == result["wire"]["bits_per_element"]
    assert inference.evaluate(inference.load(divided)).quality == result["quality"]


def _pair(fault, out):
    """Exit code and output of two processes that nothing else watches."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    own = {"JAX_COORDINATOR_ADDRESS": address, "JAX_COORDINATOR_BIND_ADDRESS": address, "JAX_NUM_PROCESSES": "2"}
    program = [sys.executable, "-m", "tests.support.two_faults", fault, str(out)]
    variables = [os.environ | own | {"JAX_NUM_CPU_DEVICES": "1", "JAX_PROCESS_ID": str(number)} for number in range(2)]
    each = [
        subprocess.Popen(program, env=one, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for one in variables
    ]
    try:
        found = [process.communicate(timeout=120)[0] for process in each]
    finally:
        for process in each:
            process.kill()
    return [(process.returncode, text) for process, text in zip(each, found, strict=True)]


def test_another_codec_on_one_process_is_named_by_both(tmp_path):
    """Before anything is written."""
    for code, text in _pair("codec", tmp_path / "run"):
        assert code == 2, text
        assert "process 1 has another command than process 0" in text
        assert "--link count:3" in text
    assert not (tmp_path / "run").exists()
