"""A number without a source raises when asked for and shows as n/a; assumptions are stated."""

import dataclasses
import io
import json

import pytest
from rich.console import Console

from snap_jax.cost import (
    HOROWITZ_45NM,
    Chain,
    Comparison,
    CostError,
    OperationCount,
    Operations,
    Range,
    Ring,
    Switch,
    System,
    links,
    plots,
    price,
)
from snap_jax.traffic.transfer import Traffic, Transfer

GATHER = Transfer("all_gather", ("die",), 4, "uint8", 64_000, times=6, path="block")
BACK = Transfer("psum", ("die",), 4, "float32", 64_000, times=6, path="block", direction="backward")
SHIFT = Transfer("ppermute", ("die",), 4, "uint8", 64_000, pairs=3)
TRAFFIC = Traffic((GATHER, BACK, SHIFT))
UNIT = dataclasses.replace(HOROWITZ_45NM, tera_ops_per_s=Range(1, 2))
MACS = Operations((OperationCount("mac", "float32", 10**9),))


def on(link, kind=Ring, **changes):
    return System({"die": kind(4, link)}, name="test bed", **changes)


UCIE = price(TRAFFIC, on(links.UCIE_STANDARD))
ETHERNET = price(TRAFFIC, on(links.ETHERNET_400G, Switch))
PCIE = price(TRAFFIC, on(links.PCIE5))


def test_energy_without_a_source_raises_and_names_it():
    assert not ETHERNET.has_energy
    with pytest.raises(CostError, match="no source for pj_per_bit of link 'Ethernet 400G'"):
        _ = ETHERNET.energy_j
    # The time is known all the same.
    assert ETHERNET.latency_s.low > 0


def test_latency_without_a_source_raises_and_leaves_a_lower_bound():
    assert PCIE.energy_j.low > 0
    assert not PCIE.has_latency
    with pytest.raises(CostError, match="no source for latency_ns of link 'PCIe 5 x16'"):
        _ = PCIE.latency_s
    assert PCIE.serialization_s.low > 0


def test_a_link_that_carries_nothing_is_not_missed():
    idle = System({"die": Ring(4, links.UCIE_STANDARD), "pod": Switch(2, links.ETHERNET_400G)})
    assert price(TRAFFIC, idle).has_energy


@pytest.mark.parametrize("report", [UCIE, ETHERNET, PCIE], ids=["ucie", "ethernet", "pcie"])
def test_table_shows_every_transfer_and_every_source(report):
    text = str(report)
    assert "test bed" in text
    for expected in (
        "6 x all_gather over die block",
        "6 x psum over die block",
        "1 x ppermute over die",
        "forward",
        "backward",
        "total",
    ):
        assert expected in text
    flat = " ".join(text.split())
    for link in {link for part in report.parts for link in part.links}:
        assert " ".join(link.source.split()) in flat
    assert ("n/a" in text) == (not report.has_energy)
    assert ("> " in text) == (not report.has_latency)


def test_transfers_that_differ_only_in_size_share_a_row_and_repeated_scopes_are_left_out():
    path = "boundary/boundary/snap.ppermute/snap.ppermute"
    moves = tuple(dataclasses.replace(SHIFT, bytes=n, path=path) for n in (100, 200, 100))
    report = price(Traffic((*moves, GATHER)), on(links.UCIE_STANDARD))
    text = str(report)
    assert text.count("ppermute over") == 1
    assert "3 x ppermute over die boundary " in text
    assert "snap.ppermute" not in text
    # Three moves of 100, 200 and 100 bytes over three links, in whole flits of 64 + 4 bytes: 2, 4 and 2 of them.
    row = next(line for line in text.splitlines() if "ppermute over" in line)
    assert f"{3 * 68 * (2 + 4 + 2):,}" in row
    assert len(report.by_transfer()) == 4


def test_table_prints_on_any_console():
    for width in (80, 200):
        console = Console(width=width, file=io.StringIO())
        console.print(UCIE)
        assert "total" in console.file.getvalue()


def test_assumptions_are_spelled_out():
    text = " ".join(str(UCIE).split())
    assert "taken as a shift by one chip" in text
    assert "time and energy to encode and decode are left out" in text
    assert "no measured silicon figure was found" in text


def test_messages_outside_the_bandwidth_regime_are_pointed_out():
    # 1 to 10 us a step against 64 kB at 50 GB/s, 1.3 us: latency decides.
    assert len(ETHERNET.outside_bandwidth_regime) == 3
    assert "3 of 3 transfers outside the bandwidth regime" in " ".join(str(ETHERNET).split())
    assert UCIE.outside_bandwidth_regime == ()


def test_json_holds_what_the_report_says():
    tree = json.loads(UCIE.to_json())
    assert tree["energy_j"] == list(UCIE.energy_j)
    assert tree["latency_s"] == list(UCIE.latency_s)
    assert tree["forward"]["energy_j"][1] + tree["backward"]["energy_j"][1] == pytest.approx(tree["energy_j"][1])
    assert [row["op"] for row in tree["by_transfer"]] == ["all_gather", "psum", "ppermute"]
    assert sum(row["wire_bytes"] for row in tree["by_transfer"]) == tree["wire_bytes"]


def test_json_is_null_where_a_source_is_missing_and_says_why():
    tree = json.loads(ETHERNET.to_json())
    assert tree["energy_j"] is None
    assert any("pj_per_bit" in note for note in tree["notes"])


def test_save(tmp_path):
    UCIE.save(tmp_path / "report.json")
    assert json.loads((tmp_path / "report.json").read_text()) == json.loads(UCIE.to_json())


def test_explain_shows_the_formula_with_the_numbers_put_in():
    text = UCIE.explain()
    # 64 kB in flits of 64 + 4 bytes; three rounds; 4 x 3 crossings of one link; six times.
    assert "64,000 B = 68,000 B on the wire" in text
    assert "6 x 3 rounds x (1 hops x 1 ns + 1 x 68,000 B / 64 GB/s) = 3.19 µs each" in text
    assert "12 crossings x 68,000 B x 8 x (0.5 to 0.6) pJ/bit = 19.6 – 23.5 µJ" in text
    # 1 ns at 64 GB/s is 64 bytes on the wire, 60 without header, in each of three rounds of one shard.
    assert "latency takes as long as the bytes on die at 60 B per operand" in text
    assert "energy n/a: no source" in ETHERNET.explain()
    assert "unknown" in PCIE.explain()


def test_link_share_and_its_amdahl_limit():
    report = price(TRAFFIC, on(links.UCIE_STANDARD, compute=UNIT), MACS)
    # 10^9 float32 macs at 4.6 pJ are 4.6 mJ, at 1 to 2 tera-operations a second on 4 chips 125 to 250 us.
    assert report.compute.energy_j.high == pytest.approx(4.6e-3)
    assert list(report.compute.latency_s) == pytest.approx([125e-6, 250e-6])
    low, high = UCIE.energy_j
    assert list(report.link_share) == pytest.approx([low / (low + 4.6e-3), high / (high + 4.6e-3)])
    assert list(report.amdahl_limit) == pytest.approx([(low + 4.6e-3) / 4.6e-3, (high + 4.6e-3) / 4.6e-3])
    assert list(report.energy_j) == pytest.approx([low + 4.6e-3, high + 4.6e-3])
    links_s = UCIE.no_overlap_s.high
    assert report.no_overlap_s.high == pytest.approx(links_s + 250e-6)
    assert report.overlap_s.low == pytest.approx(125e-6)
    assert report.link_time_share.high == pytest.approx(links_s / (links_s + 125e-6))
    assert "total with compute" in str(report)
    assert report.links.energy_j == UCIE.energy_j


def test_a_share_of_nothing_is_refused():
    with pytest.raises(CostError, match="only the links were priced; call price with operations="):
        _ = UCIE.link_share
    with pytest.raises(CostError, match=r"System\(compute=\.\.\.\)"):
        price(TRAFFIC, on(links.UCIE_STANDARD), MACS)
    empty = price(TRAFFIC, on(links.UCIE_STANDARD, compute=UNIT), Operations())
    with pytest.raises(CostError, match="the links are all there is"):
        _ = empty.amdahl_limit


def test_compute_without_a_figure_is_missed():
    exp = Operations((OperationCount("other", "float32", 10),))
    report = price(TRAFFIC, on(links.UCIE_STANDARD, compute=HOROWITZ_45NM), exp)
    assert (report.has_energy, report.has_latency) == (False, False)
    with pytest.raises(CostError, match="10 x other float32"):
        _ = report.energy_j
    with pytest.raises(CostError, match="tera_ops_per_s"):
        _ = report.latency_s
    assert report.links.energy_j == UCIE.energy_j


def test_nodes_are_never_mixed_silently():
    with pytest.raises(CostError, match=r"different process nodes .*'GRS, 1 pin': '16 nm', 'Horowitz 45 nm': '45 nm'"):
        on(links.GRS_PIN, compute=UNIT)
    mixed = on(links.GRS_PIN, compute=UNIT, mixed_nodes=True)
    assert "mixes process nodes" in str(price(TRAFFIC, mixed, MACS))
    assert "name no process node" in str(price(TRAFFIC, on(links.UCIE_STANDARD, compute=UNIT), MACS))


def runs(**changes):
    system = on(links.UCIE_STANDARD, Chain, compute=UNIT)
    spikes = Traffic(tuple(dataclasses.replace(t, bytes=t.bytes // 16) for t in TRAFFIC))
    return {
        "dense": price(TRAFFIC, system, MACS),
        "hybrid": price(spikes, system, MACS),
        "spiking": price(spikes, system, MACS.spiking(0.25)),
    } | changes


def test_dense_hybrid_and_spiking_stand_on_one_table():
    table = Comparison(runs())
    assert list(table.energy_ratio("dense")) == [1, 1]
    # A quarter of the macs fire, and an accumulate takes 0.9 of 4.6 pJ: 20.4 times less compute.
    compute = 4.6e-3 / (0.25 * 0.9e-3)
    assert compute * 0.9 < table.energy_ratio("spiking").low < compute
    assert 1 < table.energy_ratio("hybrid").high < 1.01
    assert 1 < table.time_ratio("hybrid").low < table.time_ratio("hybrid").high
    assert all(name in str(table) for name in ("dense", "hybrid", "spiking"))


def test_only_like_is_compared_with_like():
    with pytest.raises(CostError, match=r"\['links'\] priced without compute"):
        Comparison(runs(links=UCIE))
    newer = dataclasses.replace(UNIT, process_node="7 nm")
    other = price(TRAFFIC, on(links.UCIE_STANDARD, compute=newer), MACS)
    with pytest.raises(CostError, match=r"different process nodes .*'7 nm'"):
        Comparison(runs(newer=other))
    with pytest.raises(CostError, match="no reports"):
        Comparison({})


def test_a_comparison_without_a_source_shows_why():
    text = str(Comparison({"a": ETHERNET, "b": ETHERNET}))
    assert "n/a" in text
    assert "no source for pj_per_bit" in text


@pytest.mark.parametrize("report", [UCIE, ETHERNET, PCIE, runs()["dense"]])
def test_waterfall(report, tmp_path):
    plots.waterfall(report, tmp_path / "cost.png")
    assert (tmp_path / "cost.png").read_bytes().startswith(b"\x89PNG")


def test_a_waterfall_of_nothing_known_is_refused(tmp_path):
    bare = dataclasses.replace(links.PCIE5, pj_per_bit=None)
    with pytest.raises(CostError, match="nothing to draw; no source for"):
        plots.waterfall(price(TRAFFIC, on(bare)), tmp_path / "cost.png")
