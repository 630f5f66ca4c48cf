"""Energy besides that of bits: coding, memory of reductions, and links that cannot sleep."""

import dataclasses

import pytest

from snap_jax.cost import Coding, CostError, Link, Memory, Range, Ring, System, price
from snap_jax.traffic.transfer import Traffic, Transfer

FAST = Link("fast", "b", "s", Range(1, 1), Range(10, 10), Range(100, 100))


def test_coding_takes_energy_on_every_chip():
    coded = Transfer("all_gather", ("chip",), 8, "uint8", 1_000_000, times=2)
    coding = Coding(Range(25, 25), Range(3, 3), "given", pj_per_byte=Range(2, 60))
    report = price(Traffic((coded,)), System({"chip": Ring(8, FAST)}, coding=coding))
    # Eight chips write one payload and read eight, twice.
    assert list(report.coding_j) == pytest.approx([8 * 9e6 * 2 * pj * 1e-12 for pj in (2, 60)])
    bare = price(Traffic((coded,)), System({"chip": Ring(8, FAST)}))
    assert report.energy_j.high == pytest.approx(bare.energy_j.high + report.coding_j.high)
    assert "energy to encode and decode is left out" in " ".join(
        price(
            Traffic((coded,)), System({"chip": Ring(8, FAST)}, coding=dataclasses.replace(coding, pj_per_byte=None))
        ).notes()
    )


def test_speeds_of_coding_by_element():
    # Half a bit per element: 16 elements a payload byte, 2 ns each to encode: 32 ns a byte.
    coding = Coding.of_elements(2.0, 0.5, bits_per_element=0.5, source="measured")
    move = Transfer("ppermute", ("chip",), 8, "uint8", 1000, pairs=1)
    assert coding.seconds(move).high == pytest.approx(1000 * (32 + 8) * 1e-9)


def test_reductions_read_and_write_memory_on_every_chip():
    memory = Memory("m", "s", Range(2, 3), Range(100, 200))
    report = price(
        Traffic((Transfer("psum", ("chip",), 8, "float32", 8_000_000, times=2, groups=4),)),
        System({"chip": Ring(8, FAST)}, memory=memory),
    )
    count = 2 * 7 * 3 * 1_000_000  # twice seven additions of a shard: two reads, one write
    assert list(report.memory_s) == pytest.approx([count / 200e9, count / 100e9])
    assert list(report.memory_j) == pytest.approx([count * 8 * 4 * pj * 1e-12 for pj in (2, 3)])
    assert report.no_overlap_s.high > report.memory_s.high


def test_memory_without_a_figure_is_named_where_something_is_added():
    unknown = System({"chip": Ring(8, FAST)}, memory=Memory("m", "s"))
    moved = price(Traffic((Transfer("all_gather", ("chip",), 8, "uint8", 100),)), unknown)
    assert moved.has_energy
    assert moved.has_latency
    added = price(Traffic((Transfer("psum", ("chip",), 8, "uint8", 100),)), unknown)
    with pytest.raises(CostError, match="no source for pj_per_byte of memory 'm'"):
        _ = added.energy_j
    with pytest.raises(CostError, match="no source for gbyte_per_s of memory 'm'"):
        _ = added.latency_s


def test_links_that_cannot_sleep_draw_power_until_the_run_is_over():
    # A ring of 8 has 16 directions. An all-gather of 1 MB uses 8 of them for 7 rounds of 100 ns + 100 us.
    known = dataclasses.replace(FAST, static_w=Range(0.01, 0.02))
    move = Traffic((Transfer("all_gather", ("chip",), 8, "uint8", 1_000_000),))
    report = price(move, System({"chip": Ring(8, known)}))
    seconds, busy = 7 * (100e-9 + 100e-6), 56 * 1e6 / 10e9
    assert report.no_overlap_s.high == pytest.approx(seconds)
    idle = 16 * seconds - busy
    assert list(report.awake_j) == pytest.approx([report.energy_j.high + w * idle for w in (0.01, 0.02)])
    # Without a source: from no idle power to that of sending, 1 pJ/bit x 80 Gbit/s = 80 mW.
    bounds = price(move, System({"chip": Ring(8, FAST)})).awake_j
    assert list(bounds) == pytest.approx([report.energy_j.low, report.energy_j.high + 0.08 * idle])
    assert "total if links cannot sleep" in str(report)
    assert "no source for static_w of fast" in " ".join(
        " ".join(price(move, System({"chip": Ring(8, FAST)})).notes()).split()
    )
