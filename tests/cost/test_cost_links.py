"""A number without a source is None; pricing it says what is missing, and it is never 0."""

import dataclasses
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snap_jax.cost import CostError, Link, Range, links

PRESETS = list(links.PRESETS.values())
ids = list(links.PRESETS)


@pytest.mark.parametrize("link", PRESETS, ids=ids)
def test_every_preset_says_where_its_figures_come_from(link):
    assert len(link.source) > 3
    assert len(link.boundary) > 3


@pytest.mark.parametrize("link", PRESETS, ids=ids)
def test_no_preset_costs_nothing(link):
    for figure in (link.pj_per_bit, link.gbyte_per_s):
        assert figure is None or figure.high > 0
    assert link.pj_per_bit is None or link.pj_per_bit.low > 0


@pytest.mark.parametrize("link", PRESETS, ids=ids)
@pytest.mark.parametrize(
    ("field", "ask"),
    [
        ("pj_per_bit", lambda k: k.energy(8)),
        ("gbyte_per_s", lambda k: k.serialization(8)),
        ("latency_ns", lambda k: k.alpha()),
    ],
)
def test_a_missing_figure_is_named(link, field, ask):
    if getattr(link, field) is not None:
        assert ask(link).high > 0
        return
    with pytest.raises(CostError) as caught:
        ask(link)
    message = str(caught.value)
    assert all(part in message for part in (field, link.name, link.source, "dataclasses.replace"))


def test_energy_and_time_of_a_kilobyte():
    # 1000 bytes are 8000 bits; at 0.5 to 0.6 pJ/bit that is 4 to 4.8 nJ, and at 64 GB/s 15.625 ns.
    assert list(links.UCIE_STANDARD.energy(1000)) == pytest.approx([4e-9, 4.8e-9])
    assert list(links.UCIE_STANDARD.serialization(1000)) == pytest.approx([15.625e-9] * 2)


def test_slow_is_the_upper_bound():
    # 370 to 450 GB/s: the best figure takes less time.
    low, high = links.NVLINK_4.serialization(370e9)
    assert (low, high) == pytest.approx((370 / 450, 1.0))


@pytest.mark.parametrize(
    ("link", "payload", "wire"),
    [
        (links.UCIE_STANDARD, 1, 5),  # one flit of 64 bytes at most: 1 + 4
        (links.UCIE_STANDARD, 64, 68),
        (links.UCIE_STANDARD, 65, 73),  # two headers
        (links.ETHERNET_400G, 3000, 3076),
        (links.PCIE5, 257, 257 + 48),
        (links.ICI_V5E, 257, 257),
        (links.ETHERNET_400G, 0, 0),
    ],
)
def test_wire_bytes(link, payload, wire):
    assert link.wire_bytes(payload) == wire


def test_flits_are_whole():
    link = Link("l", "b", "s", header_bytes=3, flit_bytes=16)
    assert [link.wire_bytes(n) for n in (1, 13, 14)] == [16, 16, 32]


@settings(deadline=None)
@given(st.sampled_from(PRESETS), st.floats(0, 1e9), st.floats(0, 1e6))
def test_wire_bytes_grow_and_never_undercut_the_payload(link, payload, more):
    assert payload <= link.wire_bytes(payload) <= link.wire_bytes(payload + more)


def test_wide_multiplies_bandwidth_only():
    wide = links.GRS_PIN.wide(16)
    # 25 Gb/s a pin on 16 pins is 50 GB/s.
    assert wide.bandwidth() == Range(50.0, 50.0)
    assert wide.pj_per_bit == links.GRS_PIN.pj_per_bit


def test_pcie_bandwidth_is_lanes_times_rate_times_coding():
    # 16 lanes x 32 GT/s x 128/130 / 8 bits.
    assert math.isclose(links.PCIE5.bandwidth().low, 16 * 32 * 128 / 130 / 8)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gbyte_per_s": Range(0.0, 1.0)}, "want more than 0"),
        ({"flit_bytes": 0}, "flit_bytes >= 1"),
        ({"packet_bytes": 0}, "packet_bytes >= 1"),
        ({"header_bytes": -1}, "header_bytes >= 0"),
    ],
)
def test_impossible_links_are_refused(change, message):
    with pytest.raises(CostError, match=message):
        dataclasses.replace(links.UCIE_STANDARD, **change)
