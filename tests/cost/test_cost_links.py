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
        (links.UCIE_STANDARD, 4, 68),  # a whole flit: 64 of payload, 4 of header and checksum
        (links.UCIE_STANDARD, 64, 68),
        (links.UCIE_STANDARD, 65, 136),  # two flits
        (links.UCIE_STANDARD_256, 236, 256),
        (links.UCIE_STANDARD_256, 237, 512),
        (links.ETHERNET_400G, 1, 84),  # the least frame: 46 of payload, padded, and 38
        (links.ETHERNET_400G, 46, 84),
        (links.ETHERNET_400G, 47, 85),
        (links.ETHERNET_400G, 3000, 3076),
        (links.ETHERNET_400G, 1501, 1538 + 84),
        (links.ROCE_400G, 1, 84 + 2),  # 4 after padding, and 82: more than the least frame
        (links.ROCE_400G, 8192, 2 * (4096 + 82)),
        (links.TCP_10G, 1, 84),  # 1 + 20 + 20 is less than the least payload of 46
        (links.TCP_10G, 1460, 1538),
        (links.INFINIBAND_400G, 5, 8 + 26),
        (links.INFINIBAND_400G, 4097, 4096 + 26 + 4 + 26),
        (links.PCIE5, 257, 256 + 24 + 4 + 24),  # a payload of whole words
        (links.ICI_V5E, 257, 257),
        (links.ETHERNET_400G, 0, 0),
    ],
)
def test_wire_bytes(link, payload, wire):
    assert link.wire_bytes(payload) == wire


def test_flits_are_whole():
    link = Link("l", "b", "s", header_bytes=3, flit_bytes=16)
    assert [link.wire_bytes(n) for n in (1, 13, 14)] == [16, 16, 32]
    # Packets of 20 + 3 bytes take two flits each; the last holds 1 + 3.
    assert dataclasses.replace(link, packet_bytes=20).wire_bytes(41) == 32 + 32 + 16


def test_packets_cost_what_they_cost_whatever_they_hold():
    link = Link("l", "b", "s", packet_bytes=4, pj_per_packet=Range(2, 3), ns_per_packet=Range(5, 7))
    assert list(link.message_energy(9)) == pytest.approx([3 * 2e-12, 3 * 3e-12])
    assert list(link.message_time(9)) == pytest.approx([3 * 5e-9, 3 * 7e-9])
    assert link.without_source == ("latency_ns",)
    both = dataclasses.replace(link, pj_per_bit=Range(1, 1), gbyte_per_s=Range(1, 1))
    assert both.message_energy(9).high == pytest.approx(9e-12 + 9 * 8e-12)
    assert both.message_time(9).high == pytest.approx(21e-9 + 9e-9)


@settings(deadline=None)
@given(st.sampled_from(PRESETS), st.floats(0, 1e9, allow_subnormal=False), st.floats(0, 1e6))
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
        ({"pad_bytes": 0}, "pad_bytes >= 1"),
        ({"least_packet_bytes": -1}, "least_packet_bytes >= 0"),
        ({"packet_bytes": 0}, "packet_bytes >= 1"),
        ({"header_bytes": -1}, "header_bytes >= 0"),
    ],
)
def test_impossible_links_are_refused(change, message):
    with pytest.raises(CostError, match=message):
        dataclasses.replace(links.UCIE_STANDARD, **change)
