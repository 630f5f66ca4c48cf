"""`snap-jax bench` times coded against plain all-gathers."""

import json

import pytest

from snap_jax import cli
from snap_jax.cli.gather_bench import measure, table
from snap_jax.errors import UsageError


def test_bytes_are_those_of_the_program_and_float32_is_once_itself(capsys):
    """Two devices: each sends its 64 numbers once. int8 has one byte per number, and a scale or flag beside."""
    cli.main(["bench", "int8:absmax", "--numbers", "64", "--devices", "2", "--rounds", "3", "--json"])
    plain, coded = json.loads(capsys.readouterr().out)["links"]
    assert (plain["link"], plain["nbytes"], plain["ratios"]) == ("fp32", 2 * 64 * 4, [1.0, 1.0, 1.0])
    assert 2 * 64 <= coded["nbytes"] < 2 * 64 + 32
    assert coded["ratios"] == sorted(coded["ratios"])


def test_sizes_that_mean_nothing_are_named():
    for words, message in ((("bf16",), "--numbers 0: use 1"), (("x",), "link 'x' is not known")):
        with pytest.raises(UsageError, match=message):
            measure(words, 0 if words == ("bf16",) else 8, 2, 3)


def test_the_table_has_a_row_per_link():
    assert table(measure([], 8, 2, 3)).row_count == 1
