"""The worked example in docs/cost.md is correct; tests/test_docs.py runs its code."""

from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "cost.md").read_text(encoding="utf-8")


def test_the_example_by_hand():
    dense = 1024 * 1024 * 16 / 8
    wire = dense * 17 / 16
    assert (dense, wire) == (2_097_152, 2_228_224)
    one = 1e-9 + wire / 64e9
    assert one == pytest.approx(34.8e-6, rel=1e-3)
    assert 3 * one == pytest.approx(104e-6, rel=0.01)
    bits = 12 * wire * 8
    assert bits == pytest.approx(214e6, rel=1e-3)
    assert [bits * pj * 1e-12 for pj in (0.5, 0.6)] == pytest.approx([107e-6, 128e-6], rel=0.01)
    assert [bits / 32 * pj * 1e-12 for pj in (0.5, 0.6)] == pytest.approx([3.3e-6, 4e-6], rel=0.02)
    for stated in ("2\\,097\\,152", "2\\,228\\,224", "34.8\\,\\mu s", "**104 µs**", "214 Mbit", "**107 – 128 µJ**"):
        assert stated in PAGE
