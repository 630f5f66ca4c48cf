"""A unit has one process node; an operation without a figure is an error, never free."""

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snap_jax.cost import HOROWITZ_45NM, UNITS, CostError, OperationCount, Operations, Range
from snap_jax.cost.memory import MEMORIES
from snap_jax.errors import UsageError
from snap_jax.traffic.operations import KINDS

dtypes = st.sampled_from(["int8", "int32", "float16", "float32"])
counts = st.lists(st.tuples(st.sampled_from(KINDS[:4]), dtypes, st.integers(0, 10**9)), max_size=5)


def operations(several):
    return Operations(tuple(OperationCount(*one) for one in several), bytes_moved=len(several))


@pytest.mark.parametrize(
    ("kind", "dtype", "picojoules"),
    [
        ("mac", "float32", (4.6, 4.6)),  # 3.7 + 0.9
        ("accumulate", "float32", (0.9, 0.9)),
        ("mac", "int8", (0.23, 0.3)),  # 0.2 + 0.03 in int8, + 0.1 in int32
        ("add", "int8", (0.03, 0.03)),
        ("multiply", "int32", (3.1, 3.1)),
        ("mac", "float16", (1.5, 1.5)),
        ("mac", "uint8", (0.23, 0.3)),
    ],
)
def test_the_table_of_horowitz(kind, dtype, picojoules):
    energy = HOROWITZ_45NM.energy(Operations((OperationCount(kind, dtype, 1e12),)))
    assert list(energy) == pytest.approx(picojoules)


@pytest.mark.parametrize(
    ("unit", "kind", "dtype", "picojoules"),
    [
        ("JOUPPI_7NM", "mac", "bfloat16", (0.32, 0.59)),  # 0.21 + 0.11 in bf16, + 0.38 in float32
        ("JOUPPI_7NM", "mac", "int8", (0.077, 0.1)),  # 0.07 + 0.007 in int8, + 0.03 in int32
        ("JOUPPI_7NM", "mac", "float32", (1.69, 1.69)),
        ("IBM_7NM_FP8", "mac", "float8_e4m3fn", (2 / 3.58, 2 / 3.58)),  # two operations a multiply-accumulate
        ("TPU_V4", "mac", "bfloat16", (2 * 90 / 275, 2 * 192 / 275)),
        ("H100", "mac", "float8_e5m2", (2 * 700 / 1978.9, 2 * 700 / 1978.9)),
        ("H100", "mac", "bfloat16", (2 * 700 / 989.4, 2 * 700 / 989.4)),
        ("LOIHI", "accumulate", "int8", (23.6, 23.6)),
    ],
)
def test_newer_nodes(unit, kind, dtype, picojoules):
    energy = UNITS[unit].energy(Operations((OperationCount(kind, dtype, 1e12),)))
    assert list(energy) == pytest.approx(picojoules)


def test_a_product_of_int32_at_7_nm_has_no_source():
    with pytest.raises(CostError, match="mac int32 on 'Jouppi 7 nm'"):
        UNITS["JOUPPI_7NM"].energy(Operations((OperationCount("mac", "int32", 1),)))


@pytest.mark.parametrize("unit", UNITS.values(), ids=list(UNITS))
def test_every_unit_has_a_node_and_a_source(unit):
    assert unit.process_node
    assert len(unit.source) > 20


@pytest.mark.parametrize("memory", MEMORIES.values(), ids=list(MEMORIES))
def test_every_memory_has_an_energy_and_a_source(memory):
    assert len(memory.source) > 20
    assert memory.energy(10**12).low == pytest.approx(memory.pj_per_byte.low)


@settings(deadline=None)
@given(counts, counts)
def test_counts_and_energies_add(first, second):
    a, b = operations(first), operations(second)
    both = a + b
    assert both.bytes_moved == a.bytes_moved + b.bytes_moved
    assert [both.times(k) for k in KINDS] == [a.times(k) + b.times(k) for k in KINDS]
    parts = [HOROWITZ_45NM.energy(part) for part in (a, b)]
    assert HOROWITZ_45NM.energy(both).high == pytest.approx(sum(part.high for part in parts))


@settings(deadline=None)
@given(counts, st.floats(0, 1), st.integers(1, 16))
def test_spiking_changes_macs_and_nothing_else(several, rate, time_steps):
    dense = operations(several)
    spiking = dense.spiking(rate, time_steps)
    assert spiking.times("mac") == 0
    expected = dense.times("mac") * rate * time_steps + dense.times("accumulate") * time_steps
    assert spiking.times("accumulate") == pytest.approx(expected)
    for kind in ("add", "multiply", "other"):
        assert spiking.times(kind) == dense.times(kind) * time_steps


@pytest.mark.parametrize(("kind", "dtype"), [("other", "float32"), ("mac", "bfloat16"), ("add", "float64")])
def test_what_has_no_figure_is_refused_until_it_is_left_out(kind, dtype):
    work = Operations((OperationCount("mac", "float32", 10), OperationCount(kind, dtype, 7)))
    with pytest.raises(CostError, match=f"7 x {kind} {dtype} on 'Horowitz 45 nm'.*unit.split"):
        HOROWITZ_45NM.energy(work)
    known, left_out = HOROWITZ_45NM.split(work)
    assert (known.times("mac"), left_out.times(kind)) == (10, 7)
    assert HOROWITZ_45NM.energy(known).high == pytest.approx(46e-12)


def test_memory_costs_what_it_is_given():
    unit = dataclasses.replace(HOROWITZ_45NM, pj_per_byte=Range(1, 2))
    assert list(unit.energy(Operations((), bytes_moved=10**12))) == pytest.approx([1, 2])


@pytest.mark.parametrize(("rate", "time_steps"), [(-0.1, 1), (1.1, 1), (0.5, 0)])
def test_impossible_spiking_is_refused(rate, time_steps):
    with pytest.raises(UsageError, match=f"firing_rate={rate}, time_steps={time_steps}"):
        Operations().spiking(rate, time_steps)


def test_negative_counts_are_refused():
    with pytest.raises(UsageError, match="times >= 0"):
        OperationCount("mac", "float32", -1)
