"""Hops, load, diameter and crossings are those of the routes, which are shortest paths along edges."""

import collections
import itertools

import networkx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snap_jax.cost import Chain, CostError, FullyConnected, Graph, Mesh, Ring, Switch, Torus, links
from snap_jax.cost.topologies.base import Topology

LINK = links.UCIE_STANDARD
shapes = st.lists(st.integers(1, 4), min_size=1, max_size=3).map(tuple)
sizes = st.integers(1, 12)
# Drawn as recipes and built in the test: the run-time type checks use `random`, which strategies must not.
recipes = st.one_of(
    st.tuples(st.sampled_from([Chain, Ring, Switch, FullyConnected]), sizes),
    st.tuples(st.sampled_from([Mesh, Torus]), shapes),
)


def as_networkx(topology):
    graph = networkx.Graph(topology.edges)
    graph.add_nodes_from(range(topology.size))
    return graph


@settings(deadline=None, max_examples=30)
@given(recipes)
def test_routes_are_shortest_paths_along_edges(recipe):
    topology = recipe[0](recipe[1], LINK)
    lengths = dict(networkx.all_pairs_shortest_path_length(as_networkx(topology)))
    edges = set(topology.edges)
    for source, target in topology.pairs:
        route = topology.route(source, target)
        assert set(route) <= edges
        assert (route[0][0], route[-1][1]) == (source, target)
        assert all(a[1] == b[0] for a, b in itertools.pairwise(route))
        assert len(route) == lengths[source][target] == topology.hops(source, target)


@settings(deadline=None, max_examples=30)
@given(recipes)
def test_edges_go_both_ways_once(recipe):
    topology = recipe[0](recipe[1], LINK)
    counts = collections.Counter(topology.edges)
    assert all(counts[v, u] == 1 for u, v in topology.edges)


@settings(deadline=None, max_examples=30)
@given(recipes)
def test_closed_forms_are_what_the_routes_give(recipe):
    topology = recipe[0](recipe[1], LINK)
    for name in ("diameter", "all_to_all_load", "all_to_all_crossings", "min_degree"):
        generic = getattr(Topology, name).fget(topology)
        assert getattr(topology, name) == generic, name


@pytest.mark.parametrize("kind", [Chain, Ring])
@pytest.mark.parametrize("chips", [2, 3, 4, 7, 8])
def test_bisection_of_a_line_is_the_narrowest_cut(kind, chips):
    topology = kind(chips, LINK)
    assert topology.bisection_links == narrowest(topology)


@pytest.mark.parametrize("kind", [Mesh, Torus])
@pytest.mark.parametrize("shape", [(2,), (5,), (2, 2), (4, 2), (4, 3), (2, 2, 2)])
def test_bisection_of_a_grid_is_the_narrowest_cut(kind, shape):
    assert kind(shape, LINK).bisection_links == narrowest(kind(shape, LINK))


@pytest.mark.parametrize("chips", [2, 5, 8])
def test_bisection_of_stars(chips):
    assert FullyConnected(chips, LINK).bisection_links == narrowest(FullyConnected(chips, LINK))
    assert Switch(chips, LINK).bisection_links == chips // 2


def narrowest(topology):
    """Fewest links between two halves, by trying every half."""
    halves = [set(h) for h in itertools.combinations(range(topology.size), topology.size // 2)]
    return min(sum(u in half and v not in half for u, v in topology.edges) for half in halves)


@pytest.mark.parametrize("kind", [Mesh, Torus])
def test_no_closed_form_for_the_bisection_of_an_odd_longest_dimension(kind):
    with pytest.raises(CostError, match="odd longest dimension; use a Graph"):
        _ = kind((2, 5), LINK).bisection_links


def test_torus_bisection_of_the_scaling_book():
    # Cutting a 4 x 4 torus in half parts 4 rings, each in two places.
    assert Torus((4, 4), LINK).bisection_links == 8


def test_load_is_the_multiplicity_of_the_busiest_link():
    # All to chip 3 of a chain of four: three messages cross the last link.
    assert Chain(4, LINK).load([(0, 3), (1, 3), (2, 3)]) == 3


def test_switch_pays_two_links_of_energy_and_one_latency():
    switch = Switch(4, LINK)
    assert (switch.hops(0, 3), switch.latencies(0, 3)) == (2, 1)


@settings(deadline=None, max_examples=30)
@given(st.integers(2, 8), st.integers(0, 30), st.randoms(use_true_random=False))
def test_custom_graphs_route_as_networkx_does(chips, extra, random):
    joins = {(random.randrange(k), k) for k in range(1, chips)}
    joins |= {tuple(sorted(random.sample(range(chips), 2))) for _ in range(extra)}
    graph = networkx.Graph(sorted(joins))
    ours = Graph.from_networkx(networkx.relabel_nodes(graph, {k: f"die {k}" for k in range(chips)}), LINK)
    lengths = dict(networkx.all_pairs_shortest_path_length(graph))
    order = list(graph.nodes)
    assert all(ours.hops(s, t) == lengths[order[s]][order[t]] for s, t in ours.pairs)
    assert ours.bisection_links == narrowest(ours)


def test_a_star_of_networkx_becomes_a_switch():
    graph = networkx.star_graph(4)  # node 0 in the middle
    ours = Graph.from_networkx(graph, LINK, switches=frozenset({0}))
    assert ours.size == 4
    assert ours.edges == tuple(sorted(Switch(4, LINK).edges))
    with pytest.raises(CostError, match="want at most 16 chips and no switches"):
        _ = ours.bisection_links


def test_an_unreachable_chip_is_refused():
    with pytest.raises(CostError, match="chip 2 cannot be reached from chip 0"):
        Graph(3, ((0, 1),), LINK)


@pytest.mark.parametrize(
    "make",
    [lambda: Ring(0, LINK), lambda: Mesh((2, 0), LINK), lambda: Mesh((), LINK), lambda: Switch(-1, LINK)],
)
def test_no_chips_are_refused(make):
    with pytest.raises(CostError, match="want at least 1 chip"):
        make()


@pytest.mark.parametrize(
    "topology", [Ring(3, LINK), Torus((3,), LINK), Switch(3, LINK), Chain(3, LINK), FullyConnected(3, LINK)]
)
def test_a_chip_that_is_not_there_is_named(topology):
    with pytest.raises(CostError, match="no chip 3; it has chips 0 to 2"):
        topology.route(0, 3)
