"""A packet costs sending plus its hops; SANA-FE, which runs the same model, agrees."""

import dataclasses
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snap_jax.cost import CostError
from snap_jax.cost.address_events import LOIHI, Flow, met_on_route, price_spikes, weights

WIDTH, HEIGHT = LOIHI.width, LOIHI.height
cores = st.tuples(st.integers(0, WIDTH - 1), st.integers(0, HEIGHT - 1))
flows = st.lists(st.tuples(cores, cores, st.integers(0, 40)), max_size=8)


@settings(deadline=None)
@given(cores, cores)
def test_energy_and_delay_follow_the_hops(source, target):
    flow = Flow(source, target)
    dx, dy = abs(target[0] - source[0]), abs(target[1] - source[1])
    assert flow.hops == dx + dy
    assert LOIHI.packet_energy(flow).high == pytest.approx((111 + 3.0 * dx + 4.2 * dy) * 1e-12)
    assert LOIHI.hop_delay(flow).high == pytest.approx((4.1 * dx + 6.5 * dy) * 1e-9)


@settings(deadline=None)
@given(flows)
def test_energy_is_additive_over_flows_and_time_steps(several):
    parts = [Flow(*one) for one in several]
    whole = price_spikes(parts, LOIHI, time_steps=3)
    assert whole.energy_j.high == pytest.approx(3 * sum(price_spikes([one], LOIHI).energy_j.high for one in parts))
    assert whole.packets == 3 * sum(one.spikes for one in parts)


@settings(deadline=None)
@given(flows, st.integers(1, 5), st.integers(0, 5))
def test_time_grows_with_time_steps_and_bounds_stay_ordered(several, time_steps, more):
    parts = [Flow(*one) for one in several]
    short, long = (
        price_spikes(parts, LOIHI, time_steps).latency_s,
        price_spikes(parts, LOIHI, time_steps + more).latency_s,
    )
    assert short.low <= long.low
    assert short.high <= long.high


def test_spikes_of_one_time_step_between_two_cores_share_packets():
    mesh = dataclasses.replace(LOIHI, spikes_per_packet=4, header_bits=16, address_bits=10, payload_bits=2)
    flow = Flow((0, 0), (1, 0), spikes=9)
    # Nine spikes take three packets of four; every spike brings its address and payload, every packet a header.
    assert mesh.packets(flow) == 3
    assert mesh.bits(flow) == 3 * 16 + 9 * 12
    assert price_spikes([flow], mesh).energy_j.high == pytest.approx(3 * 114e-12)


@pytest.mark.parametrize(("spikes", "packets"), [(0.5, 0.5), (1.5, 1), (6.5, 1.625), (0, 0), (1, 1)])
def test_mean_spike_counts_give_mean_packet_counts(spikes, packets):
    mesh = dataclasses.replace(LOIHI, spikes_per_packet=4)
    assert mesh.packets(Flow((0, 0), (1, 0), spikes)) == pytest.approx(packets)


def test_contention_as_stated():
    flow = Flow((0, 0), (2, 1))  # 3 hops, 14.7 ns on a clear road; room for 4 x 16 packets
    receive = 16e-9
    assert LOIHI.shared_delay(flow, 0).high == pytest.approx(14.7e-9)
    assert LOIHI.shared_delay(flow, 40).high == pytest.approx(40 * receive / 4)
    assert LOIHI.shared_delay(flow, 70).high == pytest.approx(70 * receive / 4 + 6 * receive)


def test_a_packet_weighs_one_over_hops_plus_two_on_every_tile():
    first, second = Flow((0, 0), (2, 0), 10), Flow((1, 0), (1, 1), 6)
    weight = weights([first, second], LOIHI)
    assert weight == {(0, 0): 10 / 4, (1, 0): 10 / 4 + 6 / 3, (2, 0): 10 / 4, (1, 1): 6 / 3}
    assert met_on_route(second, weight) == pytest.approx(10 / 4 + 6 / 3 + 6 / 3)


def test_bounds_of_a_time_step():
    # 10 packets out of one core and into another, one hop east.
    price = price_spikes([Flow((0, 0), (1, 0), 10)], LOIHI, time_steps=2)
    send, receive = 10 * 5.1e-9, 10 * 16e-9
    met = 2 * 10 / 3  # two tiles, each with 10 packets of weight 1/3
    shared = max(4.1e-9, met * 16e-9 / 2)
    # Overlapped, the second time step adds the busiest end; apart, each pays everything and a barrier.
    assert price.latency_s.low == pytest.approx(receive + receive)
    assert price.latency_s.high == pytest.approx(2 * (send + shared + receive + 1800e-9))


def test_silence_costs_nothing():
    price = price_spikes([Flow((0, 0), (1, 0), 0)], LOIHI)
    assert (price.energy_j.high, price.latency_s.high, price.packets) == (0, 0, 0)


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda: LOIHI.packet_energy(Flow((0, 0), (8, 0))), r"no core \(8, 0\); it has 8 x 4 cores"),
        (lambda: LOIHI.packets(Flow((0, 0), (1, 0), -1)), "-1 spikes"),
        (lambda: LOIHI.bits(Flow((0, 0), (1, 0))), "no source for header_bits and address_bits of 'Loihi mesh'"),
        (lambda: price_spikes([], LOIHI, time_steps=0), "time_steps=0"),
    ],
)
def test_what_cannot_be_priced_is_refused(ask, message):
    with pytest.raises(CostError, match=message):
        ask()


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


def run(placed, model):
    sanafe, arch, net = placed
    chip = sanafe.SpikingChip(arch)
    chip.load(net)
    result = chip.sim(1, timing_model=model, message_trace=True, processing_threads=1)
    return result, [m for m in result["message_trace"][0] if not m["placeholder"]]


def flow_of(message):
    return Flow((message["src_x"], message["src_y"]), (message["dest_x"], message["dest_y"]))


def test_sanafe_agrees_on_hops_delay_and_energy(placed):
    result, messages = run(placed, "simple")
    assert len(messages) == PLACEMENTS
    for message in messages:
        assert flow_of(message).hops == message["hops"]
        assert LOIHI.hop_delay(flow_of(message)).high == pytest.approx(message["network_delay"])
    ours = sum(LOIHI.packet_energy(flow_of(m)).high for m in messages)
    assert ours == pytest.approx(result["energy"]["network"])


def test_sanafe_with_contention_lies_between_a_clear_and_a_shared_road(placed):
    _, messages = run(placed, "detailed")
    # SANA-FE waits for the synapse too: its mean time to receive a packet is that of its messages.
    receive = max(m["processing_delay"] for m in messages) * 1e9
    mesh = dataclasses.replace(LOIHI, ns_receive=dataclasses.replace(LOIHI.ns_receive, high=receive))
    weight = weights([flow_of(m) for m in messages], mesh)
    for message in messages:
        flow, delay = flow_of(message), message["network_delay"] + message["blocking_delay"]
        assert delay >= mesh.hop_delay(flow).low * (1 - 1e-9)
        assert delay <= mesh.shared_delay(flow, met_on_route(flow, weight)).high * (1 + 1e-9)
