"""Prices of payloads with several sizes: the measured ones, and the largest that the program may send."""

import pytest

from snap_jax.report.load_run import read_runs
from snap_jax.report.rows import rows
from snap_jax.traffic import Traffic, Transfer
from snap_jax.traffic.branch_choice import choose
from snap_jax.traffic.measured_sizes import with_measured_sizes
from snap_jax.traffic.transfer import join
from snap_jax.training.result_json import as_sent, cost_section
from tests.support.report_runs import SPIKING, make_run

PERM = ((0, 1), (1, 2))


def hop(nbytes, direction="forward", path="boundary"):
    """From each of three stages but the last to the next, in five slots."""
    return Transfer(
        "ppermute", ("stage",), 3, "uint8", nbytes, 5, path, direction, (nbytes,), pairs=len(PERM), perm=PERM
    )


def step(*, largest=1000):
    """Payloads of 250, 500 or `largest` bytes forward, bf16 back, and a byte to agree on the size."""
    sizes = choose("boundary", [Traffic((hop(n),)) for n in (250, 500, largest)])
    agreed = Transfer("pmax", ("stage",), 3, "uint8", 1, 5, "boundary")
    return join([Traffic((agreed,)), sizes, Traffic((hop(4000, "backward"),))])


def test_the_largest_sizes_give_way_to_those_sent():
    """2,000 elements per message over 2 pairs in 5 slots, 1.2 bits of each measured: 300 bytes per message."""
    sent = as_sent(step(), {"stage": 3}, elements=2000 * 2 * 5, sent_bits=1.2)
    assert [(t.op, t.bytes, t.direction) for t in sent] == [
        ("pmax", 1, "forward"),
        ("ppermute", 300, "forward"),
        ("ppermute", 4000, "backward"),
    ]
    assert step().sent_bytes - sent.sent_bytes == (1000 - 300) * 2 * 5
    assert as_sent(step(), {"stage": 3}, elements=2000 * 2 * 5, sent_bits=99.0).sent_bytes == step().sent_bytes


def test_what_has_one_size_or_was_not_counted_has_one_price():
    plain = Traffic((hop(1000), hop(4000, "backward")))
    assert as_sent(plain, {"stage": 3}, 100, 1.0) is None
    assert as_sent(step(), {"stage": 3}, 100, None) is None
    assert as_sent(step(), {"stage": 3, "tensor": 2}, 100, 1.0) is None
    backward = choose("boundary", [Traffic((hop(n, "backward"),)) for n in (10, 20)])
    assert with_measured_sizes(backward, lambda t: t.direction == "forward", 5.0) is None


def test_a_payload_in_parts_keeps_the_part_that_always_crosses():
    """A first part of 100 bytes, and parts of 300 and 600 under a `cond` each; 325 bytes per message are measured."""
    parts = [choose("boundary", [Traffic(), Traffic((hop(n),))]) for n in (300, 600)]
    sent = as_sent(join([Traffic((hop(100),)), *parts]), {"stage": 3}, elements=2000 * 2 * 5, sent_bits=1.3)
    share = (325 - 100) / (300 + 600)
    assert [t.bytes for t in sent] == [100, 300 * share, 600 * share]
    assert sent.sent_bytes == 325 * 2 * 5


def test_both_prices_are_in_the_result():
    """UCIe: flits of 64 bytes in 68, and at least 0.5 pJ per bit; a hop carries 5 slots of one message per pair."""
    traffic, mesh = step(), {"stage": 3}
    sent = as_sent(traffic, mesh, 2000 * 2 * 5, 1.2)
    section = cost_section(traffic, mesh, sent)
    ucie = section["UCIe standard package"]
    least = 0.5e-12 * 8 * 68 / 64
    saved = ucie["energy_j_per_step"][0] - ucie["sent_energy_j_per_step"][0]
    assert saved == pytest.approx((1000 - 300) * 2 * 5 * least, rel=0.02)  # flits are whole
    assert ucie["sent_latency_s_per_step"][1] < ucie["latency_s_per_step"][1]
    assert section["400G Ethernet"]["sent_energy_j_per_step"] is None
    assert "sent_energy_j_per_step" not in cost_section(traffic, mesh)["UCIe standard package"]
    alone = cost_section(sent, mesh)["PCIe 5 x16"]
    assert alone["energy_j_per_step"] == section["PCIe 5 x16"]["sent_energy_j_per_step"]
    assert cost_section(traffic, {"stage": 1}, sent) == {}


def test_the_report_has_the_price_of_what_was_sent_and_below_it_the_most(tmp_path):
    costs = {
        "energy_j_per_step": [4e-6, 8e-6],
        "latency_s_per_step": [3e-3, 3e-3],
        "sent_energy_j_per_step": [1e-6, 2e-6],
        "sent_latency_s_per_step": [1e-3, 1e-3],
    }
    largest = {name: costs[name.removeprefix("sent_")] for name in costs}
    paths = [make_run(tmp_path, "largest", {("cost", "ring"): largest})]
    assert "at most, as compiled" not in {row.name for row in rows(read_runs(paths))}
    paths = [make_run(tmp_path, "plain"), make_run(tmp_path, "rungs", SPIKING | {("cost", "ring"): costs})]
    found = [row for row in rows(read_runs(paths)) if row.group == "Links, as ring"]
    assert [(row.name, *row.cells, row.minor) for row in found] == [
        ("energy per step", "1–2 µJ", "1–2 µJ", False),
        ("at most, as compiled", "1–2 µJ", "4–8 µJ", True),
        ("latency per step", "3 ms", "1 ms", False),
        ("at most, as compiled", "3 ms", "3 ms", True),
    ]
