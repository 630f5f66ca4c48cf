"""Predictions and tables of the link lab, from rows whose times follow from the model by hand."""

import doctest
import json
import math

import pytest

from benchmarks.linklab import model_steps, page, predict, tables
from snap_jax.traffic.branch_choice import choose
from snap_jax.traffic.transfer import Traffic, Transfer

MEASURED = {"low": 0.0, "high": 0.0, "machine": "m", "commit": "c", "date": "d"}
LATENCY, BYTE, REST = 1e-3, 1e-9, 0.02  # of the machine; what the coded program takes besides
FACTOR = 1.5  # the collective fills a link to two thirds


def on_wire(nbytes):
    """Bytes of whole frames, each with 66 bytes in front of 1448."""
    return nbytes + 66 * math.ceil(nbytes / 1448)


def _row(spec, rate, nbytes, seconds, elements=2**20):
    """One message to the next of two hosts."""
    traffic = Traffic((Transfer("ppermute", ("host",), 2, "uint8", nbytes, pairs=1, perm=((0, 1),)),))
    shared = {"program": "collective_speed", "collective": "ppermute", "elements": elements, "hosts": 2}
    counted = {"claimed_bytes": nbytes, "least_claimed_bytes": nbytes, "taken_bytes": nbytes, "messages": 1}
    facts = counted | {"interface_bytes": 1.02 * nbytes + 800, "traffic": json.loads(traffic.to_json())}
    return MEASURED | shared | facts | {"spec": spec, "rate": rate, "seconds": seconds}


def _rows():
    """Floats of 4 MB and of 4 KB, and a code that sends three quarters."""
    big, small, coded = 4_000_000, 4_000, 3_000_000
    at = lambda nbytes, mbit: LATENCY + 8 * on_wire(nbytes) / (mbit * 1e6)
    return [
        _row("fp32", "unlimited", big, LATENCY + BYTE * big),
        _row("fp32", "unlimited", small, LATENCY + BYTE * small, elements=1000),
        _row("ternary", "unlimited", coded, REST + LATENCY + BYTE * coded),
        _row("fp32", "1gbit", big, FACTOR * at(big, 1000)),
        _row("fp32", "50mbit", big, FACTOR * at(big, 50)),
        _row("ternary", "1gbit", coded, 1.25 * (REST + FACTOR * at(coded, 1000))),
        _row("ternary", "50mbit", coded, REST + FACTOR * at(coded, 50)),
    ]


def test_the_model_finds_what_made_the_rows():
    """Each row at a limited rate is predicted exactly, but for the one that took a quarter longer: 1 - 1 / 1.25."""
    rows = _rows()
    model = predict.calibrated(rows)
    assert model.machine.latency_s == pytest.approx(LATENCY)
    assert model.machine.byte_s == pytest.approx(BYTE)
    assert model.slowdown == {"ppermute": pytest.approx(FACTOR)}
    off = [model.seconds(row) / row["seconds"] for row in rows]
    assert off == pytest.approx([1, 1, 1, 1, 1, 1 / 1.25, 1])
    # Calibrations, and rows without a limit, are no predictions: fp32 at 50 Mbit/s and the code at both rates are.
    assert sorted(predict.errors(model, rows)) == pytest.approx([0, 0, 1 - 1 / 1.25], abs=1e-9)
    assert "3 rows send 1 MiB or more" in tables.error_line(model, rows)


def test_a_link_is_never_faster_than_the_machine():
    """100 Gbit/s is 12.5 GB/s; the machine moves 1 GB/s."""
    rows = _rows()
    model = predict.calibrated(rows)
    assert model.link_seconds(rows[0] | {"rate": "100gbit"}) == pytest.approx(FACTOR * (LATENCY + BYTE * 4_000_000))


def test_sizes_chosen_in_the_run_are_those_that_were_counted():
    """The traffic claims at most 100 bytes; 60 crossed."""
    long, short = (Traffic((Transfer("ppermute", ("host",), 2, "uint8", n, pairs=1),)) for n in (100, 10))
    both = json.loads(choose("sizes", [long, short]).to_json())
    assert predict.traffic_of({"traffic": both, "interface_bytes": 60.0}).sent_bytes == 60


def test_bytes_beyond_three_percent_are_a_constant_per_message():
    """2 % and 800 bytes were added. 4 KB: 880 beyond the claim, 3 % of it are 120, two hosts: 380 each."""
    rows = tables.latest(_rows() + _rows())
    assert len(rows) == len(_rows())
    assert tables.constant_per_message(rows) == pytest.approx((80 + 800 - 120) / 2)
    assert tables.bytes_table(rows)[2] == "| `fp32` | 1.0202 |"  # 2 % and 800 / 4e6


def test_a_break_even_rate_is_linear_in_seconds_per_bit():
    """A code takes 1 s and a tenth of the bits: with 10^9 bits, floats take as long where 1 = 0.9 * 10^9 / rate."""
    seconds = lambda spec, rate: {"fp32": 1e9 / rate, "int8": 1 + 1e8 / rate}[spec]
    rates = {"10gbit": 1e10, "50mbit": 5e7}
    rows = [{"spec": s, "rate": name, "seconds": seconds(s, r)} for s in ("fp32", "int8") for name, r in rates.items()]
    assert list(tables.break_even(rows, "fp32")) == [("int8", "900 Mbit/s")]


def test_the_rate_at_which_a_factor_is_reached():
    """Floats over the code: 4/3 of the bytes where the 20 ms of coding do not count, less where they do."""
    rows = _rows()
    model = predict.calibrated(rows)
    fp32, ternary = rows[0], rows[2]
    assert tables.reached(model, ternary, fp32, 1.34) == "at no rate"
    # At 50 Mbit/s floats take 1.5 (1 + 669) ms and the code 20 + 1.5 (1 + 502) ms: 1.30; at 100 Mbit/s it is 1.27.
    assert tables.reached(model, ternary, fp32, 1.29) == "up to 50 Mbit/s"


def test_the_page_shows_every_program():
    rows = _rows()
    steps = [
        row | {"program": "model_steps", "kind": "inference", "config": "{}", "collective": None} for row in rows[2:]
    ]
    peers = [
        {"program": "torch_peers", "spec": "fp16", "rate": rate, "seconds": 1.0} | MEASURED
        for rate in ("unlimited", "1gbit")
    ]
    model = predict.calibrated([*rows, *peers])
    text = "\n".join(page.measured([*rows, *steps, *peers], model))
    for part in ("### Bytes counted", "ppermute, 2 hosts", "### Steps: inference"):
        assert part in text


@pytest.mark.parametrize("module", [tables, model_steps])
def test_examples_in_docstrings(module):
    assert doctest.testmod(module).failed == 0
