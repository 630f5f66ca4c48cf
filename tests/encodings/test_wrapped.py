"""What encodings around another one take from it."""

import pytest

import snap_jax as snap


@pytest.mark.parametrize("around", [snap.Outliers, snap.Scaled, lambda inner: snap.Exact(inner, tokens=1)])
def test_threshold_and_symbols_are_those_of_the_encoding(around):
    code = around(snap.Count(5, threshold=2.0))
    assert (code.threshold, code.symbols, code.positive) == (2.0, range(-5, 6), ("threshold",))
    assert code.with_threshold(3.0) == around(snap.Count(5, threshold=3.0))
    assert code.lowered(2) == around(snap.Count(5, threshold=2.0).lowered(2))


def test_a_payload_of_fixed_size_is_that_of_the_share_that_the_encoding_keeps():
    """Of 100 elements 10 are kept, and one error is sent."""
    assert snap.Outliers(snap.TopK(0.1), share=0.01).density == 0.1


def test_a_threshold_is_relative_where_the_one_inside_is():
    assert [snap.Outliers(inner).relative for inner in (snap.Count(5), snap.Scaled(snap.Count(5)))] == [False, True]
