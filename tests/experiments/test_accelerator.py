"""The benchmark for accelerators, on a CPU: its checks pass, notice what is wrong, and end in time; its tables fill."""

import io
import math
import re

import jax.numpy as jnp
import pytest
from rich.console import Console

import snap_jax as snap
from benchmarks import accelerator


def run(checks, end=math.inf):
    console = Console(file=io.StringIO(), width=200)
    return (*accelerator.run_checks(iter(checks), console, end), console.file.getvalue())


def test_there_is_a_check_for_each_wire_encoding_and_collective():
    names = [name for name, _ in accelerator.checks()]
    assert len(set(names)) == len(names)
    for part in (*accelerator.WIRES, *accelerator.ENCODINGS, *accelerator.COLLECTIVES):
        assert any(part in name for name in names)


@pytest.mark.parametrize("name", ["3: packed writes", "3, 5: .*count:3.packed", "3: count:3.ladder agrees"])
def test_checks_hold_on_cpu(name):
    [check] = [check for check in accelerator.checks() if re.match(name, check[0])]
    assert run([check])[:2] == ([], 0)


@pytest.mark.parametrize("mapping", accelerator.mappings())
def test_collectives_hold_on_cpu(mapping):
    assert accelerator.equals_lax("ppermute", "count:3", accelerator.mappings()[mapping])


def test_what_fails_is_named_and_what_is_late_is_counted():
    failed, left_out, said = run([("good", lambda: True), ("2: bad", lambda: False)])
    assert (failed, left_out) == (["2: bad"], 0)
    assert "does not hold: 2: bad" in said
    assert "1 checks hold, 1 do not" in said
    assert run([("good", lambda: True)] * 3, end=0.0)[:2] == ([], 3)
    assert list(accelerator.in_time(["a", "b"], end=0.0)) == ["a"]


def test_a_wrong_codec_is_noticed(monkeypatch):
    right = snap.codec("count:3+packed").encoding.decode
    monkeypatch.setattr(snap.Count, "decode", lambda self, values, side=(): right(jnp.abs(values), side))
    monkeypatch.setattr(snap.Count, "quantize", lambda self, x: x)
    assert not accelerator.comes_back("count:3+packed")


def test_tables_have_a_row_for_each_candidate():
    speed = accelerator.bandwidth(2**10, ("packed",), rounds=2)
    assert [str(cell) for cell in speed.columns[0].cells] == ["copy", "encode packed", "decode packed"]
    steps = accelerator.steps(False, ("fp32", "count:3"), rounds=2, end=0.0)
    assert [str(cell) for cell in steps.columns[0].cells] == ["fp32"]
