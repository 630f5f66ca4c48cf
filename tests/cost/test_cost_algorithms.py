"""Times and energies follow the formulas at the top of `algorithms`."""

import dataclasses
import math

import pytest

from snap_jax.cost import Chain, CostError, FullyConnected, Graph, Link, Mesh, Range, Ring, Switch, Torus
from snap_jax.cost.algorithms import ALGORITHMS, applies, chosen_plan, default_algorithm, plan
from snap_jax.cost.topologies.base import Use
from snap_jax.cost.units import Joules, Seconds

A, B, PJ = 3e-6, 5e9, 2.0  # seconds, bytes a second, picojoules a bit
LINK = Link("plain", "for tests", "none", Range(PJ, PJ), Range(B / 1e9, B / 1e9), Range(A * 1e9, A * 1e9))
S = 840_000  # divides by every size below


def seconds(rounds):
    return Seconds.total(one.seconds() for one in rounds).high


def joules(rounds):
    return Joules.total(one.joules() for one in rounds).high


def operand(op, n):
    return S // n if op == "all_gather" else S


@pytest.mark.parametrize("n", [2, 3, 4, 8])
@pytest.mark.parametrize(
    ("op", "halves"), [("all_gather", 1), ("psum_scatter", 1), ("psum", 2), ("pmax", 2), ("pmin", 2)]
)
def test_ring(op, halves, n):
    # nccl-tests: (n-1) a + (n-1)/n S/B for each half; every chip sends (n-1)/n S over one link.
    rounds = plan(op, operand(op, n), Ring(n, LINK), "ring")
    assert seconds(rounds) == pytest.approx(halves * ((n - 1) * A + (n - 1) / n * S / B))
    assert joules(rounds) == pytest.approx(halves * n * (n - 1) / n * S * 8 * PJ * 1e-12)


@pytest.mark.parametrize("n", [2, 4, 8, 16])
@pytest.mark.parametrize("size", [1, S, 10 * S])
def test_bidirectional_ring(size, n):
    # scaling-book: max(T_min n/2, S/W), W both directions.
    rounds = plan("all_gather", size / n, Ring(n, LINK, bidirectional=True), "axes")
    assert seconds(rounds) == pytest.approx(max(A * n / 2, size / (2 * B)))


@pytest.mark.parametrize("shape", [(4, 4), (8, 4), (4, 4, 4), (4,)])
@pytest.mark.parametrize("size", [1, S, 100 * S])
def test_torus_all_gather(size, shape):
    # scaling-book: max(T_min sum(n_i)/2, S/(W axes)).
    rounds = plan("all_gather", size / math.prod(shape), Torus(shape, LINK), "axes")
    assert seconds(rounds) == pytest.approx(max(A * sum(shape) / 2, size / (2 * B * len(shape))))


@pytest.mark.parametrize(
    ("topology", "degree"),
    [
        (Chain(4, LINK), 1),
        (Mesh((3, 3), LINK), 2),
        (Mesh((2, 2, 2), LINK), 3),
        (Torus((3, 3), LINK), 4),
        (Ring(5, LINK), 2),
    ],
)
def test_flood(topology, degree):
    # ceil((n-1)/d_min) (a + chunk/B); each shard crosses one link for every other chip.
    n = topology.size
    rounds = plan("all_gather", S / n, topology, "flood")
    assert seconds(rounds) == pytest.approx(math.ceil((n - 1) / degree) * (A + S / n / B))
    assert joules(rounds) == pytest.approx(n * (n - 1) * S / n * 8 * PJ * 1e-12)


@pytest.mark.parametrize("n", [2, 4, 7])
def test_direct_on_a_switch(n):
    # All messages leave at once: one latency, and n - 1 messages queue at each port. Each goes up and down.
    rounds = plan("all_to_all", S, Switch(n, LINK), "direct")
    assert seconds(rounds) == pytest.approx(A + (n - 1) / n * S / B)
    assert joules(rounds) == pytest.approx(2 * (n - 1) * S * 8 * PJ * 1e-12)


@pytest.mark.parametrize("n", [2, 4, 7])
def test_direct_where_every_pair_has_a_link(n):
    rounds = plan("all_to_all", S, FullyConnected(n, LINK), "direct")
    assert seconds(rounds) == pytest.approx(A + S / n / B)


@pytest.mark.parametrize("shape", [(4,), (8,), (4, 4), (8, 4), (4, 4, 4)])
def test_all_to_all_on_a_torus(shape):
    # jax roofline: S_total / 2 / bisection, the bisection counted both ways.
    torus = Torus(shape, LINK)
    (one,) = plan("all_to_all", S, torus, "direct")
    total, bisection = S * torus.size, 2 * torus.bisection_links * B
    assert one.serialization().high == pytest.approx(total / 2 / bisection)


@pytest.mark.parametrize("n", [2, 4, 8])
def test_halving_doubling(n):
    # log2(n) rounds of S/2, S/4, ... S/n: together (n-1)/n S.
    rounds = plan("psum_scatter", S, FullyConnected(n, LINK), "halving_doubling")
    assert seconds(rounds) == pytest.approx(math.log2(n) * A + (n - 1) / n * S / B)


def test_halving_doubling_shares_links_on_a_ring():
    # Chips 4 apart on a ring of 8: four hops each way, two messages on every link that is used both ways.
    ring = Ring(8, LINK)
    far = plan("psum_scatter", S, ring, "halving_doubling")[-1]
    pairs = [(i, i ^ 4) for i in range(8)]
    assert far.uses == (Use(LINK, 4, ring.load(pairs), 32),)


def test_two_shot_is_an_all_to_all_and_an_all_gather():
    ring = Ring(4, LINK)
    two_shot = plan("psum", S, ring, "two_shot")
    added = dataclasses.replace(plan("all_to_all", S, ring, "direct")[0], memory_bytes=5 * S / 4)  # reads 4, writes 1
    assert two_shot == (added, *plan("all_gather", S / 4, ring, "ring"))


def test_an_all_to_all_handed_on_around_a_ring():
    # A message for the chip d places on takes d rounds: 1 + 2 + ... + (n - 1) rounds of one shard, all chips at once.
    n = 4
    rounds = plan("all_to_all", S, Ring(n, LINK), "ring")
    assert seconds(rounds) == pytest.approx((1 + 2 + 3) * (A + S / n / B))
    assert joules(rounds) == pytest.approx(n * (1 + 2 + 3) * S / n * 8 * PJ * 1e-12)


@pytest.mark.parametrize(("algorithm", "shards"), [("ring", 9), ("halving_doubling", 9), ("direct", 5)])
def test_a_reduction_reads_and_writes_memory(algorithm, shards):
    # Four chips: three additions that read two shards and write one, or one that reads four and writes one.
    assert sum(r.memory_bytes for r in plan("psum_scatter", S, Switch(4, LINK), algorithm)) == shards * S / 4
    assert sum(r.memory_bytes for r in plan("all_gather", S, Switch(4, LINK), algorithm)) == 0


def test_a_switch_that_stores_sends_the_bytes_twice():
    rounds = plan("all_gather", S, Switch(4, LINK, store_and_forward=True), "ring")
    assert seconds(rounds) == pytest.approx(3 * (A + 2 * S / B))
    rounds = plan("all_gather", S, Switch(4, LINK, store_and_forward=True), "direct")
    assert seconds(rounds) == pytest.approx(A + (3 + 1) * S / B)


def test_chips_pay_the_time_to_hand_over_in_each_round():
    slow = dataclasses.replace(LINK, endpoint_ns=Range(50.0, 70.0))
    rounds = plan("all_gather", S, Ring(4, slow), "ring")
    assert seconds(rounds) == pytest.approx(3 * (A + S / B + 70e-9))


def test_ppermute_pays_the_longest_way_and_the_busiest_link():
    # jax roofline: a max_hops + shard x max link multiplicity / B. Chain of 4, all shift right, the last wraps:
    # 3 hops back, links 0-1, 1-2, 2-3 carry one message each way.
    rounds = plan("ppermute", S, Chain(4, LINK), "direct", ((0, 1), (1, 2), (2, 3), (3, 0)))
    assert seconds(rounds) == pytest.approx(3 * A + S / B)
    crossing = plan("ppermute", S, Chain(4, LINK), "direct", ((0, 2), (1, 3)))
    assert seconds(crossing) == pytest.approx(2 * A + 2 * S / B)


def test_broadcast():
    assert seconds(plan("pbroadcast", S, Chain(4, LINK), "flood")) == pytest.approx(3 * A + S / B)
    # A switch that cannot copy: the root sends three times through one port.
    assert seconds(plan("pbroadcast", S, Switch(4, LINK), "direct")) == pytest.approx(A + 3 * S / B)


def test_nothing_moves_on_one_chip_or_without_bytes():
    assert plan("psum", S, Ring(1, LINK), "ring") == ()
    assert plan("psum", 0, Ring(4, LINK), "ring") == ()
    assert plan("ppermute", S, Ring(4, LINK), "ring", ((0, 0),)) == ()


WIRINGS = [Ring(4, LINK), Ring(4, LINK, bidirectional=True), Chain(4, LINK), Mesh((2, 3), LINK), Torus((4, 3), LINK)]
WIRINGS += [Switch(4, LINK), FullyConnected(4, LINK), Graph(3, ((0, 1), (1, 2)), LINK)]


@pytest.mark.parametrize("topology", WIRINGS, ids=lambda t: t.kind)
@pytest.mark.parametrize("op", ["all_gather", "psum", "psum_scatter"])
def test_default_moves_the_fewest_bytes(topology, op):
    least = min(joules(plan(op, S, topology, a)) for a in ALGORITHMS if applies(a, topology))
    assert joules(plan(op, S, topology, default_algorithm(topology))) == pytest.approx(least)


@pytest.mark.parametrize("topology", WIRINGS, ids=lambda t: t.kind)
@pytest.mark.parametrize("size", [16, S, 1000 * S])
def test_cheapest_is_no_dearer_than_any_other(topology, size):
    plans = [plan("psum", size, topology, a) for a in ALGORITHMS if applies(a, topology)]
    assert seconds(chosen_plan("psum", size, topology, "fastest")) == min(map(seconds, plans))
    assert joules(chosen_plan("psum", size, topology, "least_energy")) == min(map(joules, plans))


@pytest.mark.parametrize(
    ("algorithm", "topology"),
    [("axes", Switch(4, LINK)), ("flood", FullyConnected(4, LINK)), ("halving_doubling", Ring(6, LINK))],
)
def test_an_algorithm_that_does_not_apply_is_named_with_those_that_do(algorithm, topology):
    with pytest.raises(CostError, match=f"'{algorithm}' has no model on {topology.kind} of .*; want one of ring"):
        plan("all_gather", S, topology, algorithm)


def test_an_op_without_a_model_is_named():
    with pytest.raises(CostError, match="no model of op='ragged_all_to_all'"):
        plan("ragged_all_to_all", S, Ring(4, LINK), "ring")
