"""Latency and bandwidth from measured times."""

import json
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snap_jax import cli
from snap_jax.cost import Switch, System, price, toml_systems
from snap_jax.cost.link_fit import Fitted, Timed, fit, median_error, read
from snap_jax.cost.units import CostError
from snap_jax.traffic.transfer import Traffic, Transfer


@given(st.floats(1e-6, 1e-2), st.floats(1e-11, 1e-7))
def test_a_link_is_found_again(latency, per_byte):
    link = Fitted(latency, per_byte)
    found = fit([Timed(m, b, link.seconds(m, b)) for m, b in ((1, 1e3), (1, 1e7), (3, 1e5), (6, 1e6))])
    assert found.latency_s == pytest.approx(latency, rel=1e-4)
    assert found.byte_s == pytest.approx(per_byte, rel=1e-4)


def test_relative_errors_count_alike():
    """Two measurements of one size, a tenth above and below: their harmonic balance, not that of the longer ones.

    With messages of no latency the best `x` minimizes (x/1.1 - 1)^2 + (x/0.9 - 1)^2: x = (1/1.1 + 1/0.9) / (1/1.21 +
    1/0.81).
    """
    samples = [Timed(0, 1, 1.1), Timed(0, 1, 0.9), Timed(1, 0, 1e-9)]
    assert fit(samples).byte_s == pytest.approx((1 / 1.1 + 1 / 0.9) / (1 / 1.21 + 1 / 0.81))


def test_a_latency_is_not_negative():
    """Short messages that were faster than their bytes: only a bandwidth is found, 1 second per byte for two alike."""
    assert fit([Timed(1, 1, 0.1), Timed(1, 10, 10.0)]).latency_s == 0


@pytest.mark.parametrize(
    ("samples", "error"),
    [
        ([], "0 samples do not tell"),
        (
            [Timed(1, 10, 1.0), Timed(2, 20, 2.0)],
            "2 samples do not tell latency from bandwidth: measure at least",
        ),
        ([Timed(1, 10, 9.0), Timed(1, 20, 1.0)], "more bytes took less time"),
    ],
)
def test_what_cannot_be_fitted(samples, error):
    with pytest.raises(CostError, match=error):
        fit(samples)


def test_the_command_prints_a_link_that_prices(tmp_path, capsys):
    """1 ms and 1 GB/s: a message of 1 MB takes 2 ms. The error is that of the one sample that is a tenth off."""
    link = Fitted(1e-3, 1e-9)
    rows = [{"messages": m, "bytes": b, "seconds": link.seconds(m, b), "rate": "any"} for m, b in ((1, 1e3), (2, 1e7))]
    path = tmp_path / "times.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    cli.main(["cost", "calibrate", str(path)])
    printed = capsys.readouterr().out
    assert printed.startswith("# 2 samples, median error 0.0%\n")
    system = toml_systems.parse(
        tomllib.loads(f'name = "lab"\n{printed}\n[axes.x]\ntopology = "Switch"\nchips = 2\nlink = "mine"\n')
    )
    one = Traffic((Transfer("ppermute", ("x",), 2, "uint8", 1_000_000, pairs=1, perm=((0, 1),)),))
    assert price(one, system).latency_s.high == pytest.approx(2e-3, rel=0.01)
    same = System({"x": Switch(2, link.link("lab", "here"))})
    assert price(one, same).latency_s.high == pytest.approx(2e-3)


@pytest.mark.parametrize("line", ["no json", "{}", '{"messages": 1, "bytes": "many", "seconds": 1}', "[1, 2, 3]"])
def test_lines_that_are_no_samples(tmp_path, line, capsys):
    path = tmp_path / "times.jsonl"
    path.write_text('{"messages": 1, "bytes": 2, "seconds": 3}\n' + line)
    with pytest.raises(CostError, match=r"calibrate: .*times\.jsonl.* line 2.*: write lines such as .\"messages\": 3"):
        read(path)
    with pytest.raises(SystemExit):
        cli.main(["cost", "calibrate", str(tmp_path / "absent")])
    assert f"cannot read {tmp_path / 'absent'} (No such file" in capsys.readouterr().err


def test_median_error_is_relative():
    assert median_error([11.0], [10.0]) == pytest.approx(0.1)
