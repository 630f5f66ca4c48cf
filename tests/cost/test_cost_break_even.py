"""Half size and break-even are where the lines they come from cross."""

import pytest

from snap_jax.cost import Chain, Coding, CostError, Link, Range, Ring, Switch, System, links, price
from snap_jax.cost.break_even import break_even_bytes, half_size_bytes
from snap_jax.traffic.transfer import Traffic, Transfer

A, B = 2e-6, 10e9
LINK = Link("plain", "b", "s", None, Range(B / 1e9, B / 1e9), Range(A * 1e9, A * 1e9))
CODING = Coding(Range(20, 20), Range(5, 5), "given")


def seconds(op, size, topology, dtype="float32", coding=None):
    system = System({"x": topology}, coding=coding)
    pairs = topology.size if op == "ppermute" else 0
    move = Transfer(op, ("x",), topology.size, dtype, round(size), pairs=pairs)
    return price(Traffic((move,)), system).no_overlap_s.high


@pytest.mark.parametrize("op", ["all_gather", "psum", "psum_scatter", "all_to_all", "ppermute"])
@pytest.mark.parametrize("kind", [Ring, Chain, Switch])
def test_at_half_size_half_the_time_is_latency(op, kind):
    half = half_size_bytes(op, kind(4, LINK)).high
    latency = seconds(op, 1, kind(4, LINK))
    assert seconds(op, half, kind(4, LINK)) == pytest.approx(2 * latency, rel=1e-3)


def test_half_size_of_a_ring_gather():
    # Every round: a against shard/B. They are equal at a B bytes.
    assert half_size_bytes("all_gather", Ring(8, LINK)).high == pytest.approx(A * B)


@pytest.mark.parametrize("coding", [None, CODING])
def test_coded_and_dense_gathers_take_the_same_time_at_break_even(coding):
    ring, ratio = Ring(4, LINK), 1 / 16
    size = break_even_bytes("all_gather", ring, ratio, coding).high
    coded = seconds("pmax", 4, ring) + seconds("all_gather", size * ratio, ring, "uint8", coding)
    assert coded == pytest.approx(seconds("all_gather", size, ring), rel=1e-3)


@pytest.mark.parametrize("coding", [None, CODING])
def test_coded_and_dense_sums_take_the_same_time_at_break_even(coding):
    switch, ratio = Switch(4, LINK), 1 / 8
    size = break_even_bytes("psum", switch, ratio, coding).high
    parts = [("all_to_all", size * ratio), ("all_gather", size * ratio / 4)]
    coded = seconds("pmax", 4, switch) + sum(seconds(op, n, switch, "uint8", coding) for op, n in parts)
    assert coded == pytest.approx(seconds("psum", size, switch), rel=1e-3)


def test_a_wire_of_fixed_size_pays_at_once():
    assert break_even_bytes("all_gather", Ring(4, LINK), 1 / 16, agreement_bytes=0) == Range(0.0, 0.0)


def test_bounds_come_from_the_bounds_of_the_link():
    low, high = break_even_bytes("all_gather", Switch(4, links.ETHERNET_400G), 1 / 16)
    assert high == pytest.approx(10 * low, rel=1e-3)  # 1 to 10 us of latency


def test_coding_that_never_pays_is_refused():
    slow = Coding(Range(0.1, 0.1), Range(0.1, 0.1), "given")
    with pytest.raises(CostError, match=r"a coded all_gather at ratio=0\.5 never pays with the best figures"):
        break_even_bytes("all_gather", Ring(4, LINK), 0.5, slow)
    with pytest.raises(CostError, match="ratio=1 never pays"):
        break_even_bytes("all_gather", Ring(4, LINK), 1)


def test_a_missing_figure_is_named():
    with pytest.raises(CostError, match="no source for latency_ns of link 'PCIe 5 x16'"):
        half_size_bytes("psum", Ring(4, links.PCIE5))
