"""An exported trace reads back with the Chakra schema and moves the same bytes on the same topology."""

import collections
import json

import pytest
import yaml

from snap_jax.cost import Chain, CostError, FullyConnected, Mesh, Range, Ring, Switch, System, Torus, links
from snap_jax.cost.chakra import dimensions, export, network_yaml, system_json
from snap_jax.traffic.transfer import Traffic, Transfer
from tests.support.astra_formulas import collective_time_ns
from tests.support.chakra_x import METADATA, NODE


def read(path):
    """(metadata, nodes) of a trace; every field must be one of the schema."""
    data, at, messages = path.read_bytes(), 0, []
    while at < len(data):
        size, shift = 0, 0
        while True:
            byte, at = data[at], at + 1
            size, shift = size | (byte & 0x7F) << shift, shift + 7
            if byte < 0x80:
                break
        one = (NODE if messages else METADATA).FromString(data[at : at + size])
        assert one.SerializeToString(deterministic=True) == data[at : at + size]
        messages.append(one)
        at += size
    return messages[0], messages[1:]


def attributes(node):
    found = {}
    for attr in node.attr:
        value = getattr(attr, attr.WhichOneof("value"))
        found[attr.name] = list(value.values) if attr.WhichOneof("value").endswith("_list") else value
    return found


TRAFFIC = Traffic(
    (
        Transfer("psum", ("pod", "die"), 8, "float32", 4096, times=3, path="net"),
        Transfer("all_gather", ("die",), 4, "uint8", 100, groups=2),
        Transfer("all_to_all", ("pod",), 2, "uint8", 64, groups=4),
        Transfer("psum_scatter", ("die",), 4, "float32", 256, groups=2),
        Transfer("ppermute", ("die",), 4, "uint8", 77, groups=2, pairs=3),
        Transfer("psum", ("die",), 4, "float32", 0, groups=2),
    )
)


WIRED = System({"pod": Switch(2, links.ETHERNET_400G), "die": Ring(4, links.UCIE_STANDARD)})


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    paths = export(TRAFFIC, WIRED, tmp_path_factory.mktemp("astra"), name="job")
    return {path.name: path for path in paths}


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../a", "/a"])
def test_traces_stay_in_their_directory(name, tmp_path):
    with pytest.raises(CostError, match=r"chakra: name='.*' is a path; want the name of a file in '.*/out'"):
        export(TRAFFIC, WIRED, tmp_path / "out", name=name)
    assert not list(tmp_path.iterdir())


def test_one_trace_for_every_rank_and_three_files(exported):
    traces = {f"job.{rank}.et" for rank in range(8)}
    assert set(exported) == traces | {"network.yml", "system.json", "remote_memory.json"}


def test_every_trace_reads_back_with_the_schema(exported):
    for rank in range(8):
        metadata, nodes = read(exported[f"job.{rank}.et"])
        assert metadata.version == "0.0.4"
        assert [node.id for node in nodes] == list(range(len(nodes)))
        assert all(attributes(node)["is_cpu_op"] is False for node in nodes)


KINDS = {
    "is_cpu_op": "bool_val",
    "comm_type": "int64_val",
    "comm_size": "int64_val",
    "involved_dim": "bool_list",
    "comm_src": "int32_val",
    "comm_dst": "int32_val",
    "comm_tag": "int32_val",
}


def test_attributes_have_the_types_that_astra_sim_reads(exported):
    found = {(attr.name, attr.WhichOneof("value")) for n in read(exported["job.1.et"])[1] for attr in n.attr}
    assert found == set(KINDS.items())


def test_collectives_carry_type_size_and_dimensions(exported):
    _, nodes = read(exported["job.5.et"])
    collectives = [
        (attributes(n)["comm_type"], attributes(n)["comm_size"], attributes(n)["involved_dim"])
        for n in nodes
        if n.type == 7
    ]
    # Dimensions are the axes in reverse: die first, then pod. An all-gather counts the shard of one rank.
    assert collectives == [
        (0, 4096, [True, True]),
        (0, 4096, [True, True]),
        (0, 4096, [True, True]),
        (2, 100, [True, False]),
        (6, 64, [False, True]),
        (7, 256, [True, False]),
    ]
    assert [n.name for n in nodes][:1] == ["psum net"]


def test_a_permutation_is_matching_sends_and_receives(exported):
    sends, receives = collections.Counter(), collections.Counter()
    for rank in range(8):
        for node in read(exported[f"job.{rank}.et"])[1]:
            if node.type in (5, 6):
                a = attributes(node)
                assert rank == (a["comm_src"] if node.type == 5 else a["comm_dst"])
                kind = sends if node.type == 5 else receives
                kind[a["comm_src"], a["comm_dst"], a["comm_tag"], a["comm_size"]] += 1
    assert sends == receives
    # A shift by one among ranks 0 to 3 of pod 0 and 4 to 7 of pod 1.
    assert {key[:2] for key in sends} == {(0, 1), (1, 2), (2, 3), (4, 5), (5, 6), (6, 7)}
    assert {key[3] for key in sends} == {77}


def test_a_permutation_along_the_outer_axis_strides_over_the_inner_one(tmp_path):
    shift = Traffic((Transfer("ppermute", ("pod",), 2, "uint8", 8, groups=4, pairs=2),))
    export(shift, WIRED, tmp_path)
    pairs = set()
    for rank in range(8):
        pairs |= {(a["comm_src"], a["comm_dst"]) for a in map(attributes, read(tmp_path / f"traffic.{rank}.et")[1])}
    assert pairs == {(k, k + 4) for k in range(4)} | {(k + 4, k) for k in range(4)}


def test_each_step_waits_for_the_one_before(exported):
    _, nodes = read(exported["job.1.et"])
    kinds = [node.type for node in nodes]
    assert kinds == [7] * 6 + [6, 5]  # rank 1 receives from 0 and sends to 2
    assert [list(node.data_deps) for node in nodes] == [[], [0], [1], [2], [3], [4], [5], [5]]


def test_network_file(exported):
    tree = yaml.safe_load(exported["network.yml"].read_text())
    assert tree["topology"] == ["Ring", "Switch"]
    assert tree["npus_count"] == [4, 2]
    # 64 and 50 GB/s in 2^30 bytes a second; 10 us of a switch, half up and half down.
    assert tree["bandwidth"] == pytest.approx([64e9 / 2**30, 50e9 / 2**30])
    assert tree["latency"] == [1.0, 5000.0]


def test_system_file(exported):
    tree = json.loads(exported["system.json"].read_text())
    assert tree["all-reduce-implementation"] == ["ring", "direct"]
    assert tree["endpoint-delay"] >= 1
    assert {"scheduling-policy", "active-chunks-per-dimension", "preferred-dataset-splits", "local-mem-bw"} <= set(tree)


def test_a_torus_is_several_rings_and_two_chips_are_fully_connected():
    plan = dimensions(System({"a": Torus((4, 2, 1), links.ICI_V5E), "b": FullyConnected(3, links.ICI_V5E)}))
    assert [(d.axis, d.shape, d.size) for d in plan] == [
        ("b", "FullyConnected", 3),
        ("a", "FullyConnected", 2),
        ("a", "Ring", 4),
    ]


def test_best_figures_on_request():
    plan = dimensions(System({"a": Switch(4, links.ETHERNET_400G)}))
    assert yaml.safe_load(network_yaml(plan, "best"))["latency"] == [500.0]


def test_the_exported_files_say_what_the_closed_form_computes(tmp_path):
    # One all-reduce on a ring: the time ASTRA-sim would give for the files follows from them alone.
    link = links.Link("l", "b", "s", None, Range(50 * 2**30 / 1e9, 50 * 2**30 / 1e9), Range(500, 500))
    system = System({"x": Ring(8, link)})
    export(Traffic((Transfer("psum", ("x",), 8, "float32", 8192),)), system, tmp_path)
    network = yaml.safe_load((tmp_path / "network.yml").read_text())
    settings_ = json.loads((tmp_path / "system.json").read_text())
    (node,) = read(tmp_path / "traffic.0.et")[1]
    found = collective_time_ns(
        {0: "all_reduce"}[attributes(node)["comm_type"]],
        settings_["all-reduce-implementation"][0],
        network["topology"][0],
        network["npus_count"][0],
        attributes(node)["comm_size"],
        bandwidth_gib_s=network["bandwidth"][0],
        latency_ns=network["latency"][0],
        endpoint_delay_ns=settings_["endpoint-delay"],
        local_mem_gb_s=settings_["local-mem-bw"],
        splits=settings_["preferred-dataset-splits"],
    )
    assert found == 7416  # the first row of the oracle


@pytest.mark.parametrize("kind", [Chain, Mesh])
def test_topologies_that_astra_sim_does_not_have_are_refused(kind):
    with pytest.raises(CostError, match=rf"has no {kind.__name__} \(axis 'x'\)"):
        dimensions(System({"x": kind((4, 2) if kind is Mesh else 4, links.ICI_V5E)}))


ICI = System({"x": Ring(4, links.ICI_V5E)})


@pytest.mark.parametrize(
    ("traffic", "system", "message"),
    [
        (TRAFFIC, System({"die": Ring(1, links.ICI_V5E)}), "one chip; there is no network"),
        (TRAFFIC, System({"die": Ring(4, links.ICI_V5E)}), "runs over axis 'pod'"),
        (
            Traffic((Transfer("pbroadcast", ("x",), 4, "uint8", 8),)),
            System({"x": Ring(4, links.ICI_V5E)}),
            "runs no pbroadcast",
        ),
        (
            Traffic((Transfer("psum", ("x",), 4, "uint8", 8, times=10**6),)),
            System({"x": Ring(4, links.ICI_V5E)}),
            "want at most 100000",
        ),
        (Traffic(), System({"x": Ring(4, links.PCIE5)}), "no source for latency_ns"),
        (Traffic(), System({"x": Ring(4, links.ICI_V5E)}, algorithm="fastest"), "fix one in System"),
    ],
)
def test_what_cannot_be_exported_is_refused(traffic, system, message, tmp_path):
    with pytest.raises(CostError, match=message):
        export(traffic, system, tmp_path)


def test_a_fixed_algorithm_is_written_for_every_dimension():
    plan = dimensions(WIRED)
    assert json.loads(system_json(plan, "halving_doubling"))["all-gather-implementation"] == ["halvingDoubling"] * 2
