"""Shares, limits and thresholds are those of the formulas, and of `price` with operations."""

import dataclasses

import pytest

from snap_jax.cost import JOUPPI_7NM, Chain, CostError, Range, System, Workload, links, plots, price
from snap_jax.cost.sensitivity import CLAIM, REACHES, Balance, Thresholds, energy_balance, reached, time_balance

WORKLOAD = Workload(width=256, depth=4, chips=4, tokens=512, layout="pipeline", dtype="float32")


def chain(link):
    return lambda n: Chain(n, link)


def test_what_a_factor_needs_by_hand():
    # 16 against 1 pJ on the links and two operations: 5.3 is saved up to (16 - 5.3) / 4.3 / 2 pJ each.
    balance = Balance(16.0, 1.0, 2)
    most = balance.most(5.3)
    assert most == pytest.approx(10.7 / 8.6)
    assert balance.saved(most) == pytest.approx(5.3)
    assert balance.share(8.0) == pytest.approx(0.5)
    assert balance.limit(8.0) == pytest.approx(2.0)
    assert balance.most(16.0) is None
    assert reached(balance, 5.3, most * 1e12 * 0.99)
    assert not reached(balance, 5.3, most * 1e12 * 1.01)
    with pytest.raises(CostError, match="want 0 or more"):
        reached(balance, 5.3, -1)


@pytest.mark.parametrize("link", REACHES.values(), ids=list(REACHES))
def test_the_balance_is_that_of_prices_with_arithmetic(link):
    balance = energy_balance(WORKLOAD, chain(link), coded_bits=1.0)
    system = System({"chip": chain(link)(4)}, compute=JOUPPI_7NM)
    dense, coded = (
        price(dataclasses.replace(WORKLOAD, bits=bits).traffic("dense"), system, WORKLOAD.operations("dense"))
        for bits in (16, 1.0)
    )
    each = 1.69e-12  # float32 at 7 nm: 1.31 + 0.38
    assert balance.share(each) == pytest.approx(dense.link_share.high)
    assert balance.saved(each) == pytest.approx(dense.energy_j.high / coded.energy_j.high)
    assert balance.limit(each) == pytest.approx(dense.amdahl_limit.high)


def test_a_block_and_a_boundary_by_hand():
    # Three boundaries of 16 bits per element, four blocks of 12 w^2 products per token, on links of whole bytes.
    link = dataclasses.replace(links.UCIE_STANDARD.bare(), pj_per_bit=Range(2.0, 2.0))
    balance = energy_balance(WORKLOAD, chain(link), coded_bits=1.0)
    width, tokens = 256, 512
    assert balance.dense == pytest.approx(3 * tokens * width * 16 * 2e-12)
    assert balance.coded == pytest.approx(3 * tokens * width * 1 * 2e-12)
    assert balance.operations == 4 * 12 * width**2 * tokens
    # So 5.3 of the whole needs w c <= 3/4 x (16 - 5.3) / (12 x 4.3) x 2 pJ.
    assert balance.most(5.3) * width == pytest.approx(0.75 * 10.7 / (12 * 4.3) * 2e-12)


def test_time_needs_a_rate():
    slow = dataclasses.replace(links.UCIE_STANDARD.bare(), gbyte_per_s=Range(1.0, 1.0), latency_ns=Range(0.0, 0.0))
    balance = time_balance(WORKLOAD, chain(slow), coded_bits=1.0)
    assert balance.dense == pytest.approx(512 * 256 * 2 / 1e9)
    assert balance.operations == 12 * 256**2 * 512
    assert 1 / balance.most(15.2) > 0  # operations per second of a device


def test_where_the_claim_holds_and_where_it_does_not():
    table = Thresholds(WORKLOAD, coded_bits=0.5)
    bf16_at_7nm = 0.59  # 0.21 + 0.38 pJ
    for reach in ("die-to-die", "board", "rack"):
        for width in table.widths:
            assert not reached(table.balance(reach, width), CLAIM["energy"], bf16_at_7nm)
    for width in table.widths:
        assert reached(table.balance("wide-area", width), CLAIM["energy"], bf16_at_7nm)
        assert reached(table.balance("wide-area", width), CLAIM["latency"], bf16_at_7nm)
    assert "wide-area" in str(table)


def test_a_plot_of_the_factor_over_the_energy_of_arithmetic(tmp_path):
    balances = {reach: energy_balance(WORKLOAD, chain(link), 1.0) for reach, link in REACHES.items()}
    plots.sensitivity(balances, list(CLAIM.values()), {"bfloat16, 7 nm": 0.59}, tmp_path / "factor.svg")
    assert "<svg" in (tmp_path / "factor.svg").read_text()
