"""Spike packets are a kind of link: `price` gives what SANA-FE, which runs the same model, gives."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snap_jax.cost import CostError, System, price
from snap_jax.cost.address_events import loihi, spike_traffic, together

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


@pytest.fixture(scope="module")
def placed():
    """Neurons that fire once, each to a neuron elsewhere on the chip, as SANA-FE's Loihi sees them."""
    sanafe = pytest.importorskip("sanafe", reason="SANA-FE (GPL) is an optional oracle: pip install sanafe")
    rng = random.Random(0)
    arch = sanafe.load_loihi()
    tiles = [(rng.randrange(32), rng.randrange(32)) for _ in range(PLACEMENTS)]
    net = sanafe.Network()
    source = net.create_neuron_group("source", PLACEMENTS, model_attributes={"threshold": 0.5, "bias": 1.0})
    target = net.create_neuron_group("target", PLACEMENTS, model_attributes={"threshold": 1e9})
    for k, (here, there) in enumerate(tiles):
        source.neurons[k].map_to_core(arch.tiles[here].cores[0])
        target.neurons[k].map_to_core(arch.tiles[there].cores[1])
        source.neurons[k].connect_to_neuron(target.neurons[k], {"weight": 1.0})
    return sanafe, arch, net


def messages_of(placed, model):
    sanafe, arch, net = placed
    chip = sanafe.SpikingChip(arch)
    chip.load(net)
    result = chip.sim(1, timing_model=model, message_trace=True, processing_threads=1)
    return result, [m for m in result["message_trace"][0] if not m["placeholder"]]


def ends(message):
    return (message["src_x"], message["src_y"]), (message["dest_x"], message["dest_y"])


def test_sanafe_agrees_on_the_time_and_energy_of_every_placement(placed):
    result, messages = messages_of(placed, "simple")
    assert len(messages) == PLACEMENTS
    away = [m for m in messages if ends(m)[0] != ends(m)[1]]
    report = cost([(*ends(m), 1) for m in away])
    # SANA-FE counts receiving a packet apart from the network, and sending also where a spike stays on its tile.
    for message, (_, part) in zip(away, report.by_transfer(), strict=True):
        assert part.no_overlap_s.high == pytest.approx(message["network_delay"] + 16e-9)
    stays = (PLACEMENTS - len(away)) * 111e-12
    assert report.energy_j.high + stays == pytest.approx(result["energy"]["network"])


def test_sanafe_with_contention_is_not_faster_than_a_free_way(placed):
    _, messages = messages_of(placed, "detailed")
    away = [m for m in messages if ends(m)[0] != ends(m)[1]]
    for message, (_, part) in zip(away, cost([(*ends(m), 1) for m in away]).by_transfer(), strict=True):
        assert message["network_delay"] + message["blocking_delay"] >= part.no_overlap_s.high - 16e-9 - 1e-15
