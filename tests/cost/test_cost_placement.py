"""Axes that are placed on one network share its links; where a mesh is put decides what its slow links carry."""

import pytest

from snap_jax.cost import CostError, Graph, Link, Range, Ring, System, place, price
from snap_jax.traffic.transfer import Traffic, Transfer

FAST = Link("inside a host", "b", "s", Range(1, 1), Range(100.0, 100.0), Range(100.0, 100.0))
SLOW = Link("between hosts", "b", "s", Range(10, 10), Range(10.0, 10.0), Range(1000.0, 1000.0))
# Two hosts of four chips: switches 8 and 9, and one join between them for four chips: oversubscribed four times.
JOINS = (*((k, 8) for k in range(4)), *((k, 9) for k in range(4, 8)), (8, 9))
HOSTS = Graph(8, JOINS, FAST, kinds=(*[FAST] * 8, SLOW))
SIZE = 1_000_000


def moved(op, axis, n, groups, system, **how):
    return price(Traffic((Transfer(op, (axis,), n, "uint8", SIZE, groups=groups, **how),)), system)


def test_a_mesh_on_two_hosts():
    axes = place({"data": 2, "tensor": 4}, HOSTS)
    assert axes["tensor"].groups == ((0, 1, 2, 3), (4, 5, 6, 7))
    assert axes["data"].groups == ((0, 4), (1, 5), (2, 6), (3, 7))


def test_an_axis_across_hosts_queues_at_the_slow_link():
    system = System(place({"data": 2, "tensor": 4}, HOSTS))
    inside = moved("ppermute", "tensor", 4, 2, system, pairs=4, perm=((0, 1), (1, 2), (2, 3), (3, 0)))
    # Up and down a fast link, one message on each.
    assert inside.no_overlap_s.high == pytest.approx(2 * 100e-9 + SIZE / 100e9)
    assert inside.energy_j.high == pytest.approx(8 * 2 * SIZE * 8 * 1e-12)
    across = moved("ppermute", "data", 2, 4, system, pairs=2, perm=((0, 1), (1, 0)))
    # All four chips of a host share the link between them.
    assert across.no_overlap_s.high == pytest.approx(2 * 100e-9 + 1000e-9 + 4 * SIZE / 10e9)
    assert across.energy_j.high == pytest.approx(8 * SIZE * 8e-12 * (2 * 1 + 10))


def test_a_wider_link_between_hosts_is_shared_by_as_many_more():
    wide = Graph(8, JOINS, FAST, kinds=(*[FAST] * 8, SLOW.wide(4)))
    system = System(place({"data": 2, "tensor": 4}, wide))
    across = moved("ppermute", "data", 2, 4, system, pairs=2, perm=((0, 1), (1, 0)))
    assert across.no_overlap_s.high == pytest.approx(2 * 100e-9 + 1000e-9 + SIZE / 10e9)


def test_a_bad_placement_sends_everything_over_the_slow_link():
    good = System(place({"data": 2, "tensor": 4}, HOSTS))
    bad = System(place({"data": 2, "tensor": 4}, HOSTS, order=(0, 4, 1, 5, 2, 6, 3, 7)))
    times = [moved("psum", "tensor", 4, 2, system).no_overlap_s.high for system in (good, bad)]
    assert times[1] > 5 * times[0]


def test_axes_on_one_network_do_not_overlap():
    system = System(place({"data": 2, "tensor": 4}, HOSTS))
    a = Transfer("psum", ("data",), 2, "uint8", SIZE, groups=4)
    b = Transfer("psum", ("tensor",), 4, "uint8", SIZE, groups=2)
    both = price(Traffic((a, b)), system)
    assert both.overlap_s.high == pytest.approx(both.no_overlap_s.high)


def test_links_that_cannot_sleep_are_counted_once():
    placed = System(place({"x": 4}, Ring(4, FAST)))
    alone = System({"x": Ring(4, FAST)})
    a, b = (moved("all_gather", "x", 4, 1, system) for system in (placed, alone))
    idle = [report.awake_j.high - report.energy_j.high for report in (a, b)]
    # 8 directions, each at most 0.8 W, for the time of the run but for that of the bytes.
    assert idle[0] == pytest.approx(0.8 * (8 * a.no_overlap_s.high - a.wire_bytes / 100e9))
    assert idle[1] == pytest.approx(0.8 * (8 * b.no_overlap_s.high - b.wire_bytes / 100e9))


@pytest.mark.parametrize(
    ("mesh", "order", "message"),
    [
        ({"x": 9}, None, "9 devices"),
        ({"x": 2}, (1, 1), "want a chip of its own for each"),
        ({"x": 2}, (0, 8), "no chip 8"),
        ({"x": 2}, (0,), "2 devices"),
    ],
)
def test_meshes_that_do_not_fit_are_refused(mesh, order, message):
    with pytest.raises(CostError, match=message):
        place(mesh, HOSTS, order)


def test_a_graph_wants_a_link_for_every_join():
    with pytest.raises(CostError, match="kinds has 1 links for 9 joins"):
        Graph(8, JOINS, FAST, kinds=(SLOW,))
