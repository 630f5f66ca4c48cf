"""Cost is additive over transfers, and monotone in bytes, hops and 1/bandwidth; names of axes do not matter."""

import dataclasses
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snap_jax.cost import (
    Chain,
    Coding,
    CostError,
    FullyConnected,
    Graph,
    Link,
    Mesh,
    Range,
    Ring,
    Switch,
    System,
    Torus,
    cheapest,
    links,
    price,
)
from snap_jax.traffic.branch_choice import choose
from snap_jax.traffic.transfer import Traffic, Transfer, join

OPS = ("all_gather", "psum", "pmax", "psum_scatter", "all_to_all", "ppermute", "pbroadcast")
SYSTEM = {"x": (Ring, 4), "y": (Switch, 2)}

moves = st.fixed_dictionaries(
    {
        "op": st.sampled_from(OPS),
        "axes": st.sampled_from([("x",), ("y",)]),
        "bytes": st.integers(0, 10**7),
        "times": st.integers(1, 50),
        "direction": st.sampled_from(["forward", "backward"]),
    }
)


def transfer(move):
    size = SYSTEM[move["axes"][0]][1]
    pairs = size - 1 if move["op"] == "ppermute" else 0
    return Transfer(group_size=size, dtype="uint8", pairs=pairs, **move)


def system(link=links.UCIE_STANDARD, **changes):
    return System({name: kind(size, link) for name, (kind, size) in SYSTEM.items()}, **changes)


def numbers(report):
    return (*report.energy_j, *report.no_overlap_s, report.wire_bytes)


@settings(deadline=None, max_examples=40)
@given(st.lists(moves, max_size=6), st.lists(moves, max_size=6))
def test_additive_over_transfers(first, second):
    a, b = (Traffic(tuple(map(transfer, part))) for part in (first, second))
    parts = [price(part, system()) for part in (a, b)]
    whole = price(join((a, b)), system())
    assert numbers(whole) == pytest.approx([sum(pair) for pair in zip(*map(numbers, parts), strict=True)])


@settings(deadline=None, max_examples=40)
@given(st.lists(moves, min_size=1, max_size=6))
def test_parts_add_up_to_the_whole(several):
    report = price(Traffic(tuple(map(transfer, several))), system())
    splits = [
        list(report.by_axis().values()),
        [part for _, part in report.by_transfer()],
        [report.forward, report.backward],
    ]
    for parts in splits:
        assert numbers(report) == pytest.approx([sum(v) for v in zip(*map(numbers, parts), strict=True)])
    assert report.overlap_s.high <= report.no_overlap_s.high * (1 + 1e-12)
    assert report.serialization_s.low <= report.no_overlap_s.low * (1 + 1e-12)


@settings(deadline=None, max_examples=40)
@given(moves, st.integers(0, 10**6), st.integers(0, 5))
def test_monotone_in_bytes_and_executions(move, bytes_, times):
    more = move | {"bytes": move["bytes"] + bytes_, "times": move["times"] + times}
    less, more = (price(Traffic((transfer(m),)), system()) for m in (move, more))
    assert all(a <= b for a, b in zip(numbers(less), numbers(more), strict=True))


@settings(deadline=None, max_examples=40)
@given(moves, st.integers(1, 9))
def test_a_program_that_runs_a_transfer_often_pays_it_as_often(move, times):
    once, often = (price(Traffic((transfer(move | {"times": n}),)), system()) for n in (1, times))
    assert numbers(often) == pytest.approx([times * value for value in numbers(once)])
    assert often.serialization_s.high == pytest.approx(times * once.serialization_s.high)


@settings(deadline=None, max_examples=40)
@given(moves, st.floats(1, 100), st.sampled_from(["gbyte_per_s", "latency_ns", "pj_per_bit"]))
def test_monotone_in_every_figure_of_a_link(move, factor, field):
    worse = getattr(links.UCIE_STANDARD, field) * (1 / factor if field == "gbyte_per_s" else factor)
    slow = dataclasses.replace(links.UCIE_STANDARD, **{field: worse})
    good, bad = (price(Traffic((transfer(move),)), system(link)) for link in (links.UCIE_STANDARD, slow))
    assert all(a <= b * (1 + 1e-12) for a, b in zip(numbers(good), numbers(bad), strict=True))


@settings(deadline=None, max_examples=40)
@given(st.integers(2, 9), st.integers(1, 10**6), st.data())
def test_monotone_in_hops(chips, bytes_, data):
    near = data.draw(st.integers(1, chips - 1))
    far = data.draw(st.integers(near, chips - 1))
    move = Transfer("ppermute", ("x",), chips, "uint8", bytes_, pairs=1)
    costs = []
    for hops in (near, far):
        # The only pair is (0, 1); it is `hops` links long when the chips between are switches.
        path = [0, *range(chips, chips + hops - 1), 1]
        rest = [(0, chip) for chip in range(2, chips)]
        graph = Graph(chips, tuple(itertools.pairwise(path)) + tuple(rest), links.UCIE_STANDARD)
        costs.append(numbers(price(Traffic((move,)), System({"x": graph}))))
    assert all(a <= b for a, b in zip(*costs, strict=True))


@settings(deadline=None, max_examples=40)
@given(st.lists(moves, max_size=5), st.permutations(["x", "y", "z"]))
def test_invariant_under_renaming_of_axes(several, names):
    new = dict(zip(("x", "y"), names, strict=False))
    old = Traffic(tuple(map(transfer, several)))
    renamed = Traffic(tuple(dataclasses.replace(t, axes=tuple(new[a] for a in t.axes)) for t in old))
    wired = system()
    other = System({new[name]: topology for name, topology in wired.axes.items()})
    assert numbers(price(old, wired)) == numbers(price(renamed, other))


# Hierarchies: 4 pods of 8 chips, Ethernet between pods, UCIe within.
A, B = 2e-6, 1e9
SLOW = Link("slow", "b", "s", Range(5, 5), Range(1, 1), Range(2000, 2000))
FAST = Link("fast", "b", "s", Range(1, 1), Range(10, 10), Range(100, 100))
PODS = System({"pod": Ring(4, SLOW), "chip": Ring(8, FAST)})


def test_a_reduction_over_two_axes_shrinks_the_array_on_the_inner_one_first():
    size = 32_000_000
    report = price(Traffic((Transfer("psum", ("pod", "chip"), 32, "float32", size),)), PODS)
    # Reduce-scatter over 8 chips, all-reduce of an eighth over 4 pods, all-gather over 8 chips.
    inner = 2 * (7 * 100e-9 + 7 / 8 * size / 10e9)
    outer = 2 * (3 * 2e-6 + 3 / 4 * (size / 8) / 1e9)
    assert report.no_overlap_s.high == pytest.approx(inner + outer)
    # 4 rings of 8 inside, 8 rings of 4 between; every chip sends 2 (n-1)/n of what it holds.
    joules = 8e-12 * (1 * 2 * 7 / 8 * size * 8 * 4 + 5 * 2 * 3 / 4 * size / 8 * 4 * 8)
    assert report.energy_j.high == pytest.approx(joules)


def test_a_gather_over_two_axes_crosses_the_outer_one_while_it_is_small():
    shard = 1_000_000
    report = price(Traffic((Transfer("all_gather", ("pod", "chip"), 32, "uint8", shard),)), PODS)
    assert report.no_overlap_s.high == pytest.approx(3 * (2e-6 + shard / 1e9) + 7 * (100e-9 + 4 * shard / 10e9))


def test_axes_overlap_and_transfers_on_one_axis_do_not():
    a = Transfer("psum", ("pod",), 4, "float32", 4_000_000, groups=8)
    b = Transfer("psum", ("chip",), 8, "float32", 8_000_000, groups=4)
    alone = [price(Traffic((t,)), PODS).no_overlap_s.high for t in (a, b)]
    both = price(Traffic((a, b, a)), PODS)
    assert both.no_overlap_s.high == pytest.approx(2 * alone[0] + alone[1])
    assert both.overlap_s.high == pytest.approx(max(2 * alone[0], alone[1]))


def test_groups_side_by_side_cost_energy_and_no_time():
    one, eight = (Transfer("psum", ("pod",), 4, "float32", 4000, groups=n) for n in (1, 8))
    first, second = (price(Traffic((t,)), PODS) for t in (one, eight))
    assert second.energy_j.high == pytest.approx(8 * first.energy_j.high)
    assert second.no_overlap_s == first.no_overlap_s


def test_a_coded_psum_pays_its_extra_rounds():
    # Agreement on a rung, spikes there, sums back: three collectives, each with its own latency.
    coded = Traffic(
        (
            Transfer("pmax", ("chip",), 8, "uint32", 4),
            Transfer("all_to_all", ("chip",), 8, "uint8", 1000),
            Transfer("all_gather", ("chip",), 8, "uint8", 500),
        )
    )
    flat = Link("flat", "b", "s", Range(1, 1), Range(1e9, 1e9), Range(1000, 1000))
    ring = price(coded, System({"chip": Ring(8, flat)}))
    # pmax 2 (n-1), all_to_all 4 hops at once, all_gather n-1.
    assert ring.no_overlap_s.high == pytest.approx((14 + 4 + 7) * 1e-6, rel=1e-3)


def test_coding_takes_time_on_the_chip_and_only_for_payloads():
    coding = Coding(Range(25, 25), Range(3, 3), "given")
    coded = Transfer("all_gather", ("chip",), 8, "uint8", 1_000_000, times=2)
    plain = dataclasses.replace(coded, dtype="float32")
    with_, without = (price(Traffic((coded,)), System({"chip": Ring(8, FAST)}, coding=c)) for c in (coding, None))
    # One operand is encoded, eight are decoded.
    assert with_.coding_s.high == pytest.approx(2 * (1e6 / 25e9 + 8e6 / 3e9))
    assert with_.no_overlap_s.high == pytest.approx(without.no_overlap_s.high + with_.coding_s.high)
    assert with_.overlap_s.high == pytest.approx(max(without.no_overlap_s.high, with_.coding_s.high))
    assert price(Traffic((plain,)), System({"chip": Ring(8, FAST)}, coding=coding)).coding_s.high == 0


def test_switches_are_priced_at_their_costliest_branch_and_the_report_says_so():
    long, short = (Traffic((Transfer("psum", ("chip",), 8, "uint8", n),)) for n in (8000, 1000))
    other = Transfer("psum", ("chip",), 8, "uint8", 8000, path="elsewhere")
    traffic = join((Traffic((other,)), choose("ladder", [short, long])))
    wired = System({"chip": Ring(8, FAST)})
    report = price(traffic, wired)
    assert numbers(report) == numbers(price(Traffic((other, *long)), wired))
    assert "the cheapest send 56% of those bytes" in str(report)  # (8 + 1) / (8 + 8)
    least = cheapest(traffic)
    assert least.sent_bytes == traffic.least_sent_bytes
    assert numbers(price(least, wired)) == numbers(price(Traffic((other, *short)), wired))


def test_cheapest_branches_inside_branches():
    short, middle, long = (Traffic((Transfer("psum", ("x",), 2, "uint8", n),)) for n in (1, 10, 100))
    nested = choose("outer", [choose("inner", [short, long]), middle])
    assert cheapest(nested).sent_bytes == nested.least_sent_bytes == short.sent_bytes


@pytest.mark.parametrize(
    ("move", "message"),
    [
        (Transfer("psum", (), 4, "uint8", 1, path="net/up"), "psum at 'net/up' names no mesh axis"),
        (Transfer("psum", ("z",), 4, "uint8", 1), r"runs over axis 'z'; the system has \('pod', 'chip'\)"),
        (Transfer("psum", ("pod",), 8, "uint8", 1), "runs on 8 chips over .*, the system has 4"),
        (Transfer("ragged", ("pod", "chip"), 32, "uint8", 1), "ragged over several axes"),
        (Transfer("ragged", ("pod",), 4, "uint8", 1), "no model of op='ragged'"),
    ],
)
def test_traffic_that_does_not_fit_is_refused(move, message):
    with pytest.raises(CostError, match=message):
        price(Traffic((move,)), PODS)


@pytest.mark.parametrize("kind", [Ring, Chain, Switch, FullyConnected, Mesh, Torus])
def test_one_chip_costs_nothing(kind):
    one = kind((1, 1) if kind in (Mesh, Torus) else 1, links.ETHERNET_400G)
    report = price(Traffic((Transfer("psum", ("x",), 1, "float32", 100),)), System({"x": one}))
    assert numbers(report) == (0, 0, 0, 0, 0)


def test_a_ppermute_is_priced_along_its_own_pairs():
    """Chip 0 to its opposite on a ring of 8 crosses 4 links, a shift by one crosses 1; unnamed pairs are a shift."""
    ring = System({"x": Ring(8, links.UCIE_STANDARD)})
    joules = lambda perm: (
        price(Traffic((Transfer("ppermute", ("x",), 8, "uint8", 1000, pairs=1, perm=perm),)), ring).energy_j
    )
    assert joules(((0, 4),)).high == pytest.approx(4 * joules(((0, 1),)).high)
    assert joules(()).high == joules(((0, 1),)).high
