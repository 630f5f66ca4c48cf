"""Tests of the tests: each invariant is broken on purpose, in a copy of the package, and a test must fail.

The numbers of the invariants are those of docs/invariants.md.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
LAWS = "tests/collectives/test_collective_invariants.py::"


class Mutant(NamedTuple):
    """One change of the package, and a quick test that must notice it."""

    name: str
    file: str
    old: str
    new: str
    test: str


MUTANTS = [
    Mutant(
        "1 without a codec, a zero is added",
        "collectives/permute.py",
        "plain = functools.partial(lax.ppermute, axis_name=axis_name, perm=perm)",
        "plain = lambda x: lax.ppermute(x + 0, axis_name, perm)",
        LAWS + "test_invariant_1_without_a_codec_it_is_lax[ppermute]",
    ),
    Mutant(
        "2 the gradient is that of x instead of that of quantize(x)",
        "collectives/autodiff.py",
        "plain(dqs)",
        "plain(dxs)",
        LAWS + "test_invariant_2_a_threshold_typed_varying[all_gather]",
    ),
    Mutant(
        "2 a receiver decodes with its own threshold",
        "collectives/message.py",
        "return self.codecs if self.known else read_scales",
        "return self.codecs if True else read_scales",
        LAWS + "test_a_receiver_decodes_with_the_threshold_of_the_sender[ppermute]",
    ),
    Mutant(
        "3 a size takes one spike too many",
        "wires/ladder.py",
        "fired > jnp.asarray(slots[:-1], jnp.int32)",
        "fired > 1 + jnp.asarray(slots[:-1], jnp.int32)",
        "tests/wires/test_ladder.py::test_eager_takes_the_smallest_rung_that_holds",
    ),
    Mutant(
        "3 all fields of a packed spike are read as its lowest bits",
        "wires/packed.py",
        "start, shift = start + count, shift + part",
        "start, shift = start + count, shift",
        "tests/wires/test_wires.py::test_exact_for_every_range_of_symbols[Packed(radix=False)-range(-3, 4)]",
    ),
    Mutant(
        "4 one byte too few is claimed",
        "codecs/codec.py",
        "return self.payload_sizes(shape)[-1]",
        "return self.payload_sizes(shape)[-1] - 1",
        LAWS + "test_invariant_4_a_varying_threshold_adds_four_bytes_a_channel",
    ),
    Mutant(
        "4 a float32 tensor may cross where a coded one was asked for",
        "traffic/check.py",
        "t.dtype.startswith(_FLOATS)",
        't.dtype.startswith(_FLOATS) and t.dtype != "float32"',
        "tests/traffic/test_traffic_check.py::test_dense_forward_is_found_and_the_fix_is_codec",
    ),
    Mutant(
        "5 every header says finite",
        "codecs/payload.py",
        "jnp.where(finite, FINITE, NOT_FINITE)",
        "jnp.where(finite, FINITE, FINITE)",
        LAWS + "test_invariant_5_along_a_permutation",
    ),
    Mutant(
        "6 a sum of all devices gets the bits of one",
        "collectives/sums.py",
        "range(self.count * one[0], self.count * one[-1] + one.step, one.step)",
        "one",
        LAWS + "test_invariant_6_device_count_does_not_matter",
    ),
    Mutant(
        "7 all traffic is called forward",
        "traffic/name_stack.py",
        'return "backward" if "transpose(" in name_stack else "forward"',
        'return "forward"',
        LAWS + "test_invariant_7_both_directions_are_counted[ppermute]",
    ),
]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_broken_invariant_is_noticed(mutant, tmp_path):
    for name in ("snap_jax", "tests", "conftest.py", "pyproject.toml"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    source = tmp_path / "snap_jax" / mutant.file
    text = source.read_text(encoding="utf-8")
    assert text.count(mutant.old) == 1, f"{mutant.file} does not say {mutant.old!r} once: change the mutant"
    source.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")

    # No run-time type checks, which would notice some mutants by their types.
    command = [sys.executable, "-m", "pytest", "-o", "addopts=", "-p", "no:cacheprovider", "-q", "-x", mutant.test]
    paths = os.environ | {"PYTHONPATH": str(tmp_path)}
    ran = subprocess.run(command, cwd=tmp_path, env=paths, capture_output=True, text=True, check=False)
    assert ran.returncode == pytest.ExitCode.TESTS_FAILED, ran.stdout[-2000:] + ran.stderr[-2000:]
    assert re.search("AssertionError|DID NOT RAISE", ran.stdout), "the mutant crashes:\n" + ran.stdout[-2000:]


def test_every_invariant_is_broken_at_least_once():
    assert {mutant.name.split()[0] for mutant in MUTANTS} == set("1234567")
