"""What the export writes reads back as the same traffic on the same network, at the same price."""

import pytest

from snap_jax.cost import CostError, FullyConnected, Link, Range, Ring, Switch, System, price
from snap_jax.cost.chakra import export
from snap_jax.cost.chakra_read import read
from snap_jax.traffic.transfer import Traffic, Transfer

LINK = Link("l", "b", "s", None, Range(50.0, 50.0), Range(500.0, 500.0))
SYSTEM = System({"pod": FullyConnected(2, LINK), "chip": Ring(4, LINK)}, algorithm="ring")
TRAFFIC = Traffic(
    (
        Transfer("psum", ("pod", "chip"), 8, "float32", 4096, times=2),
        Transfer("all_gather", ("chip",), 4, "uint8", 100, groups=2),
        Transfer("psum_scatter", ("chip",), 4, "float32", 256, groups=2),
        Transfer("all_to_all", ("pod",), 2, "uint8", 64, groups=4),
    )
)


def test_collectives_come_back_with_their_axes_sizes_and_price(tmp_path):
    export(TRAFFIC, SYSTEM, tmp_path)
    traffic, system = read(tmp_path)
    names = {"pod": "dimension 1", "chip": "dimension 0"}
    expected = [(t.op, tuple(names[a] for a in t.axes), t.group_size, t.bytes, t.groups) for t in TRAFFIC]
    found = [(t.op, t.axes, t.group_size, t.bytes, t.groups) for t in traffic]
    assert found == [expected[0], *expected]
    assert [axis.kind for axis in system.axes.values()] == ["FullyConnected", "Ring"]
    before, after = price(TRAFFIC, SYSTEM), price(traffic, system)
    assert after.no_overlap_s.high == pytest.approx(before.no_overlap_s.high)


def test_what_is_read_is_written_as_it_was(tmp_path):
    export(TRAFFIC, SYSTEM, tmp_path / "a")
    export(*read(tmp_path / "a"), tmp_path / "b")
    for file in ("network.yml", "system.json"):
        assert (tmp_path / "a" / file).read_text() == (tmp_path / "b" / file).read_text()
    for rank in range(8):
        a, b = ((tmp_path / way / f"traffic.{rank}.et").read_bytes() for way in ("a", "b"))
        assert a.replace(b"psum ", b"psum") == b.replace(b"psum ", b"psum")


@pytest.mark.parametrize("algorithm", ["direct", "halving_doubling"])
def test_a_switch_keeps_its_latency_and_algorithm(algorithm, tmp_path):
    wired = System({"x": Switch(4, LINK)}, algorithm=algorithm)
    export(Traffic((Transfer("psum", ("x",), 4, "float32", 4096),)), wired, tmp_path)
    _, system = read(tmp_path)
    assert system.algorithm == algorithm
    assert system.axes["dimension 0"].link.latency_ns.high == pytest.approx(500.0)


def test_a_permutation_comes_back_with_its_pairs(tmp_path):
    perm = ((0, 1), (1, 2), (2, 3))
    export(
        Traffic((Transfer("ppermute", ("x",), 4, "uint8", 77, pairs=3, perm=perm),)),
        System({"x": Ring(4, LINK)}),
        tmp_path,
    )
    (move,), _ = read(tmp_path)
    assert (move.op, move.bytes, sorted(move.perm), move.pairs) == ("ppermute", 77, list(perm), 3)


def test_a_directory_of_something_else_is_refused(tmp_path):
    with pytest.raises(CostError, match="does not hold what export writes"):
        read(tmp_path)
    export(TRAFFIC, SYSTEM, tmp_path)
    (tmp_path / "traffic.3.et").write_bytes(b"\x05ab")
    with pytest.raises(CostError, match="export it again"):
        read(tmp_path)
