"""A reduction divides two prices with the same figures; each point is priced as it would be alone."""

import dataclasses
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snap_jax.cost import HOROWITZ_45NM, Chain, CostError, Range, Ring, Switch, Workload, links, plots, sweep
from snap_jax.cost.sweep import scaled
from snap_jax.cost.workload import spike_bits

UNIT = dataclasses.replace(HOROWITZ_45NM, tera_ops_per_s=Range(100, 100))
BASE = Workload(width=512, depth=4, tokens=256, chips=4, firing_rate=0.05)


def ring(chips):
    return Ring(chips, links.UCIE_STANDARD)


@pytest.mark.parametrize(
    ("rate", "bits"),
    [(0, 0), (1, 2), (0.9, 1.9), (0.5, 1.5), (1 / 16, 7 / 16)],  # packed, bitmap, bitmap, addresses: p (3 + log2 1/p)
)
def test_spike_bits(rate, bits):
    assert spike_bits(rate) == pytest.approx(bits)


@settings(deadline=None)
@given(st.floats(0, 1), st.floats(0, 1))
def test_more_spikes_never_take_fewer_bits(a, b):
    low, high = sorted((a, b))
    assert spike_bits(low) <= spike_bits(high) + 1e-12


def test_workload_counts():
    # 12 w^2 t macs a layer; two psums of t w bf16 elements a layer.
    assert BASE.operations("dense").times("mac") == 12 * 512**2 * 256 * 4
    (psum,) = BASE.traffic("dense")
    assert (psum.op, psum.bytes, psum.times) == ("psum", 256 * 512 * 2, 8)
    spikes, sums = BASE.traffic("hybrid")
    assert spikes.bytes == math.ceil(256 * 512 * spike_bits(0.05) / 8)
    # Sums of four ternary spikes: -4 to 4, nine values, four bits, a quarter of them on every chip.
    assert sums.bytes == 256 * 512 * 4 // 8 // 4
    assert [t.bytes for t in BASE.traffic("spiking")] == pytest.approx([4 * spikes.bytes, 4 * sums.bytes], rel=1e-3)


def test_pipelines_move_one_activation_a_boundary_whatever_the_depth():
    pipeline = dataclasses.replace(BASE, layout="pipeline")
    (move,) = pipeline.traffic("dense")
    assert (move.op, move.pairs, move.times) == ("ppermute", 3, 1)
    assert pipeline.traffic("dense") == dataclasses.replace(pipeline, depth=99).traffic("dense")


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("width", [64, 256, 1024]),
        ("depth", [1, 8]),
        ("chips", [2, 4, 8]),
        ("bandwidth", [0.1, 1.0, 10.0]),
        ("firing_rate", [0.01, 0.1, 0.5]),
        ("bits", [4, 8, 16]),
        ("layout", ["tensor", "pipeline"]),
    ],
)
def test_every_field_can_be_swept(field, values):
    swept = sweep(BASE, {field: values}, ring, UNIT)
    assert [swept.values(point) for point in swept.points] == [(value,) for value in values]
    text = str(swept)
    assert all(str(value) in text for value in values)
    for point in swept.points:
        alone = sweep(point.workload, {"tokens": [256]}, ring, UNIT).points[0]
        assert alone.time_reduction("hybrid") == point.time_reduction("hybrid")


def test_sweeps_of_several_fields_vary_the_last_one_fastest():
    swept = sweep(BASE, {"width": [64, 128], "chips": [2, 4]}, ring)
    assert [swept.values(point) for point in swept.points] == [(64, 2), (64, 4), (128, 2), (128, 4)]
    with pytest.raises(CostError, match="2 fields vary"):
        swept.verdict()


def test_slower_links_widen_the_reduction_and_dense_bits_too():
    for field, values in (("bandwidth", [10.0, 1.0, 0.1]), ("bits", [4, 8, 16])):
        margins = [p.time_reduction("hybrid").low for p in sweep(BASE, {field: values}, ring, UNIT).points]
        assert margins == sorted(margins)


def test_width_dilutes_the_links_where_compute_counts():
    # Compute grows with width squared, traffic with width: the share of the links falls, and the margin with it.
    swept = sweep(BASE, {"width": [256, 1024, 4096, 16384]}, ring, UNIT)
    shares = [p.reports["dense"].link_time_share.high for p in swept.points]
    assert shares == sorted(shares, reverse=True)
    assert swept.verdict().startswith("falls from the start")


def test_width_lifts_messages_out_of_latency_where_links_are_all():
    swept = sweep(BASE, {"width": [64, 1024, 16384]}, lambda n: Switch(n, links.ETHERNET_400G))
    assert swept.verdict().startswith("grows to the end")


def test_a_reduction_that_rises_and_falls_is_told():
    fast = dataclasses.replace(UNIT, tera_ops_per_s=Range(20, 20))
    swept = sweep(BASE, {"width": [16, 1024, 65536]}, lambda n: Switch(n, links.INFINIBAND_400G), fast)
    assert swept.verdict().startswith("grows from width=16")
    assert "then falls to width=65536" in swept.verdict()


def test_no_reduction_beyond_the_amdahl_limit():
    for point in sweep(BASE, {"width": [256, 4096]}, ring, UNIT).points:
        assert point.energy_reduction("hybrid").high <= point.reports["dense"].amdahl_limit.high * (1 + 1e-12)


def test_missing_sources_show_as_na():
    text = str(sweep(BASE, {"width": [64]}, lambda n: Chain(n, links.PCIE5)))
    assert "n/a" in text


def test_scaled_links_keep_everything_but_bandwidth():
    fast = scaled(ring(4), 2.0)
    assert fast.link.bandwidth() == Range(128.0, 128.0)
    assert dataclasses.replace(fast.link, name="", gbyte_per_s=None) == dataclasses.replace(
        links.UCIE_STANDARD, name="", gbyte_per_s=None
    )


@pytest.mark.parametrize("vary", [{}, {"color": [1]}])
def test_unknown_fields_are_refused(vary):
    with pytest.raises(CostError, match="want some of"):
        sweep(BASE, vary, ring)


@pytest.mark.parametrize("vary", [{"width": [64, 256]}, {"layout": ["tensor", "pipeline"]}])
def test_curves(vary, tmp_path):
    plots.curves(sweep(BASE, vary, ring, UNIT), tmp_path / "sweep.png")
    assert (tmp_path / "sweep.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("vary", "link", "message"),
    [
        ({"width": [64], "chips": [2]}, links.UCIE_STANDARD, "sweep one"),
        ({"width": [64]}, dataclasses.replace(links.PCIE5, pj_per_bit=None), "no number has all its sources"),
    ],
)
def test_curves_that_cannot_be_drawn_are_refused(vary, link, message, tmp_path):
    with pytest.raises(CostError, match=message):
        plots.curves(sweep(BASE, vary, lambda n: Ring(n, link)), tmp_path / "sweep.png")
