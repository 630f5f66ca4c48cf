"""Options of the rate: fixed penalties, a budget that falls, how fast the transform learns, and another teacher."""

import dataclasses

import pytest

from snap_jax.boundary.rate_penalties import L1, Penalty, RaiseThreshold, TargetRate
from snap_jax.errors import UsageError
from snap_jax.training.config import LanguageConfig
from snap_jax.training.distillation import as_dense
from snap_jax.training.link_setup import links_of

START = LanguageConfig(link="count:15+rans", rank=8, width=64, init_from="runs/dense")


@pytest.mark.parametrize(
    ("spec", "penalty"),
    [
        ("bits:0.03", Penalty(0.03)),
        ("spikes:2", L1(2.0)),
        ("rate:0.3", TargetRate(0.3, 10.0)),
        ("threshold:0.1", RaiseThreshold(0.1)),
    ],
)
def test_a_penalty_has_the_weight_that_was_typed(spec, penalty):
    assert links_of(dataclasses.replace(START, penalty=spec)).penalty == penalty


def test_a_budget_falls_from_twice_its_value():
    links = links_of(dataclasses.replace(START, budget=1.0, anneal=0.5, context_tokens=0))
    assert links.penalty.target(0.25).item() == pytest.approx(2**0.5)  # halfway, geometrically
    assert (links.start_bits, links.penalty.target(0.5).item()) == (2.0, 1.0)


def test_thresholds_start_at_a_share_of_the_bits_that_a_spike_could_have():
    """Calibrated if there is a trained model to calibrate on: 0.6 of the 4 bits of an int4."""
    from_dense = LanguageConfig(link="int4", init_from="runs/dense")
    assert links_of(from_dense).start_bits == pytest.approx(0.6 * 4)
    assert links_of(dataclasses.replace(from_dense, init_from=None)).start_bits is None
    assert links_of(dataclasses.replace(from_dense, link="bf16")).start_bits is None


def test_the_transform_learns_as_fast_as_it_is_told():
    assert links_of(dataclasses.replace(START, transform_lr=0.1)).transform(64).lr_multiplier == 0.1


def test_the_dense_model_has_none_of_this():
    config = dataclasses.replace(
        START, penalty="bits:0.1", transform_lr=0.5, distill=0.5, teacher="runs/teacher", token_groups=8
    )
    assert as_dense(config) == LanguageConfig(mode="dense", width=64, init_from="runs/dense")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"penalty": "bits"}, "--penalty bits: use one of"),
        ({"penalty": "bits:-1"}, "with a number above 0"),
        ({"penalty": "bits:1", "budget": 1.0}, "a budget sets the weight"),
        ({"penalty": "bits:1", "link": "bf16"}, "--penalty bits:1 with --link bf16: no thresholds are learned"),
        ({"penalty": "bits:1", "rank": None, "layout": "data"}, "use --layout pipeline"),
        ({"anneal": 0.5}, "--anneal 0.5: use a share of the run from 0 to 1, together with --budget"),
        ({"transform_lr": 0.0}, "--transform-lr 0.0: use a number above 0"),
        ({"teacher": "runs/teacher"}, "--teacher runs/teacher without --distill"),
    ],
)
def test_what_cannot_be_used_together_is_refused(changes, words):
    with pytest.raises(UsageError, match=words.replace("(", r"\(")):
        dataclasses.replace(START, **changes)


@pytest.mark.parametrize("wire", ["rans", "ladder", "events", "tests.extensions.run_length.RunLength"])
def test_a_budget_takes_any_wire_of_several_sizes(wire):
    dataclasses.replace(START, rank=None, budget=1.0, link=f"count:15+{wire}")


@pytest.mark.parametrize("link", ["count:15", "count:15+bitmap", "int4+radix"])
def test_a_budget_needs_a_wire_of_several_sizes(link):
    with pytest.raises(UsageError, match=r"--budget 1.0 with --link .*: its payload has a fixed size: add \+rans"):
        dataclasses.replace(START, rank=None, budget=1.0, link=link)
