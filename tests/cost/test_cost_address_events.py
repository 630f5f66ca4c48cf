"""Spike packets are a kind of link: `price` gives what SANA-FE, which runs the same model, gives."""

import json
import random
import re
import types
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snap_jax.cost import CostError, System, address_events, price
from snap_jax.cost.address_events import loihi, spike_traffic, together
from snap_jax.cost.sanafe_plugin import simulate

MESH = loihi()
CHIP = System({"core": MESH}, name="Loihi")
cores = st.tuples(st.integers(0, 7), st.integers(0, 3))


def cost(flows, **how):
    return price(spike_traffic(flows, MESH, **how), CHIP)


@settings(deadline=None, max_examples=30)
@given(cores, cores, st.integers(1, 40), st.integers(1, 5))
def test_energy_and_time_follow_the_hops(source, target, spikes, time_steps):
    dx, dy = abs(target[0] - source[0]), abs(target[1] - source[1])
    report = cost([(source, target, spikes)], time_steps=time_steps)
    if source == target:
        assert report.energy_j.high == 0  # spikes of a core for itself do not travel
        return
    assert report.energy_j.high == pytest.approx(time_steps * spikes * (111 + 3.0 * dx + 4.2 * dy) * 1e-12)
    assert report.energy_j.low == pytest.approx(time_steps * spikes * (111 + 3.0 * dx + 4.0 * dy) * 1e-12)
    # The first packet takes the way, and every packet is taken in by the receiver.
    free, taken = 4.1 * dx + 6.5 * dy, spikes * 16.0
    assert report.no_overlap_s.high == pytest.approx(time_steps * (free + taken) * 1e-9)


def test_packets_of_one_time_step_queue_at_the_busiest_core():
    # Three cores send to (0, 0), the farthest over 3 + 1 hops: the receiver takes three packets in.
    pairs = [((3, 1), (0, 0)), ((1, 0), (0, 0)), ((0, 2), (0, 0))]
    report = price(together(pairs, MESH), CHIP)
    assert report.no_overlap_s.high == pytest.approx((3 * 4.1 + 6.5 + 3 * 16.0) * 1e-9)
    assert report.no_overlap_s.low == pytest.approx((3 * 4.1 + 6.5 + 3 * 5.1) * 1e-9)
    hops = 3 * 3.0 + 4.2 + 3.0 + 2 * 4.2
    assert report.energy_j.high == pytest.approx((3 * 111 + hops) * 1e-12)


def test_the_report_explains_packets():
    text = cost([((0, 0), (2, 1), 5)]).explain()
    assert "Loihi mesh, one hop east or west" in text
    assert "2 crossings x 5 packets x 3 pJ = 30 pJ" in text
    assert "1 crossings x 5 packets x 111 pJ = 555 pJ" in text


def test_a_core_that_is_not_there_is_named():
    with pytest.raises(CostError, match="no chip 32; it has chips 0 to 31"):
        cost([((0, 0), (8, 0), 1)])


PLACEMENTS = 64
RANDOM = random.Random(0)
FLOWS = [tuple((RANDOM.randrange(8), RANDOM.randrange(4)) for _ in range(2)) for _ in range(PLACEMENTS)]
AWAY = [(source, target) for source, target in FLOWS if source != target]


@pytest.fixture(scope="module")
def sanafe():
    return pytest.importorskip("sanafe", reason="SANA-FE (GPL) is an optional oracle: pip install sanafe")


def by_ends(report):
    """Seconds of each flow, the receiver's time to take a packet in left out, which SANA-FE counts apart."""
    return {pair: part.no_overlap_s.high - 16e-9 for pair, (_, part) in zip(AWAY, report.by_transfer(), strict=True)}


def test_sanafe_agrees_on_the_time_and_energy_of_every_placement(sanafe):
    found, report = simulate(FLOWS, sanafe), cost([(*pair, 1) for pair in AWAY])
    ours = by_ends(report)
    assert len(found.ways) == PLACEMENTS
    for source, target, seconds in found.ways:
        assert seconds.high == pytest.approx(ours.get((source, target), 0.0))
    # SANA-FE counts sending also where a spike stays on its tile.
    stays = (PLACEMENTS - len(AWAY)) * 111e-12
    assert report.energy_j.high + stays == pytest.approx(found.network_j.high)


def test_sanafe_with_contention_is_not_faster_than_a_free_way(sanafe):
    ours = by_ends(cost([(*pair, 1) for pair in AWAY]))
    for source, target, seconds in simulate(FLOWS, sanafe, "detailed").ways:
        assert seconds.high >= ours.get((source, target), 0.0) - 1e-15


def test_another_module_and_a_core_that_is_not_there_are_refused():
    with pytest.raises(CostError, match="module 'json'; want sanafe"):
        simulate(FLOWS, json)
    with pytest.raises(CostError, match=r"no core \(8, 0\); the chip has 8 x 4"):
        simulate([((8, 0), (0, 0))], types.ModuleType("sanafe"))


def test_the_package_never_imports_sanafe():
    sources = Path(address_events.__file__).parents[1].rglob("*.py")
    assert not [path for path in sources if re.search(r"^\s*(import|from) sanafe", path.read_text(), re.MULTILINE)]
