"""Policies: which messages are coded, from shapes alone, and what is said of it."""

import json

import pytest

import snap_jax as snap
from snap_jax import cost, policy

LINK = cost.Link("a link", "", "", None, cost.Range.exactly(0.001), cost.Range.exactly(1e6))  # 1 MB/s, 1 ms


def test_exact_never_falls_back():
    """A topk of everything: 4 bits, and no gain: the payload of 8 elements has a step and a header."""
    found = policy.choose("int8:absmax", (1,), 2, "ppermute", policy="exact")
    assert found.codec == snap.codec("int8:absmax")
    assert (found.dense_bytes, found.coded_bytes) == (2 * 4, 2 * (1 + 4 + 1))
    assert found.reason == "exact: always coded"


def test_native_sends_floats_where_the_payload_is_not_smaller():
    """One byte and six more than four of a float; at 3 elements 8 of 12."""
    one, three = (policy.choose("int8:absmax", (n,), 2, "ppermute", policy="native") for n in (1, 3))
    assert (one.codec, one.reason) == (None, "floats: the payload is not smaller")
    assert (three.codec, three.reason) == (snap.codec("int8:absmax"), "coded: 1.5x fewer bytes")


@pytest.mark.parametrize("size", [300, 1_000_000])
def test_auto_compares_the_times_of_the_cost_model(size):
    """A wire of many sizes agrees on one first, which costs latency: L + s S against more latency, fewer bytes."""
    found = policy.choose("count:3+rans", (size,), 4, "ppermute", link=LINK)
    assert (found.codec is None) == (size == 300)
    assert found.reason.startswith("floats: " if size == 300 else "coded: ")
    assert policy.choose("count:3", (100,), 4, "ppermute", link=LINK).codec == snap.codec("count:3")


def test_sums_that_cannot_be_added_are_priced_as_the_gather_they_are():
    found = policy.choose("topk:0.1", (1000,), 4, policy="native")
    payload = snap.codec("topk:0.1").payload_bytes((1000,))
    assert (found.dense_bytes, found.coded_bytes) == (2 * 3 * 4000, 4 * 3 * payload)
    for op in ("psum_scatter", "all_to_all", "all_gather"):
        found = policy.choose("ternary", (10, 3), 4, op, policy="native")
        assert found.coded_bytes < found.dense_bytes
    assert policy.choose(None, (10,), 4, policy="native").codec is None


def test_a_calibration_is_a_file(tmp_path):
    """Coding 1000 payload bytes per second is slower than sending floats."""
    path = tmp_path / "link.json"
    fields = {"latency_s": 1e-3, "bytes_per_s": 1e6}
    path.write_text(json.dumps(fields))
    assert policy.choose("count:3", (1000,), 2, "ppermute", link=str(path)).codec is not None
    path.write_text(json.dumps(fields | {"coding_bytes_per_s": 1e3}))
    assert policy.choose("count:3", (1000,), 2, "ppermute", link=str(path)).codec is None


def test_a_calibration_may_be_what_the_command_line_prints(tmp_path):
    path = tmp_path / "link.toml"
    path.write_text('[links.mine]\nboundary = "measured"\nsource = "here"\ngbyte_per_s = 0.001\nlatency_ns = 1e6\n')
    assert policy.choose("count:3", (1000,), 2, "ppermute", link=str(path)) == policy.choose(
        "count:3", (1000,), 2, "ppermute", link=LINK
    )


def test_mistakes_are_named(tmp_path):
    wrong = tmp_path / "wrong.json"
    wrong.write_text('{"latency_s": 1}')
    for options, message in (
        ({}, r"policy='auto' needs link=: give a name such as 'ethernet-400g', or a JSON file"),
        ({"link": "ethernet-10g"}, r"link='ethernet-10g' has no latency or bandwidth with a source"),
        ({"link": str(wrong)}, r"bytes_per_s is missing: use .*, a JSON file with latency_s and bytes_per_s, or"),
        ({"policy": "sometimes"}, r"policy='sometimes': use exact, native or auto"),
        ({"op": "pmax", "policy": "native"}, r"op='pmax': use psum, all_gather, ppermute, psum_scatter, all_to_all"),
    ):
        with pytest.raises(snap.UsageError, match=message):
            policy.choose("ternary", (10,), 4, **options)
