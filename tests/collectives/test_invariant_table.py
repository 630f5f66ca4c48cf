"""Invariant 2 for encodings x wires x collectives x meshes x dtypes: value, gradients of the input and the threshold.

Every pair of entries meets in some case; `--full-laws` tries them all, `--laws N` another N of them at random. Every
entry meets in some case that is compiled as users compile, since what XLA fuses it may round differently.
"""

import functools
import itertools
import random

import jax
import pytest

import snap_jax as snap
from tests.support.programs import ENCODINGS, MESHES, PAIRS, PER_CHANNEL, SUMS, WIRES, assert_same, both, sample

DTYPES = ("float32", "bfloat16", "float16")
FACTORS = (tuple(ENCODINGS), tuple(WIRES), tuple(PAIRS), tuple(MESHES), DTYPES)


@functools.cache
def can_be_sent(encoding, wire):
    """A wire may refuse an encoding, with an error that other tests read."""
    try:
        codec = snap.Codec(ENCODINGS[encoding](1.0), WIRES[wire])
        jax.eval_shape(codec.encode, jax.ShapeDtypeStruct((2, 16), "float32"))
    except snap.UsageError:
        return False
    return True


def exists(case):
    """What does not add up has no sum."""
    encoding, wire, collective, *_ = case
    return can_be_sent(encoding, wire) and (collective not in SUMS or ENCODINGS[encoding](1.0).summable)


def tuples(case, length):
    return set(itertools.combinations(enumerate(case), length))


def covering(cases, length=2, seed=0):
    """Few of `cases`, in which every `length` entries meet that meet anywhere: greedy, from random candidates."""
    draw = random.Random(seed)
    left, chosen = set().union(*(tuples(case, length) for case in cases)), []
    holding = {}
    for case in cases:
        for entries in tuples(case, length):
            holding.setdefault(entries, []).append(case)
    while left:
        candidates = draw.choices(holding[min(left)], k=60)
        chosen.append(max(candidates, key=lambda case: len(tuples(case, length) & left)))
        left -= tuples(chosen[-1], length)
    return chosen


def test_covering_meets_every_pair_with_few():
    cases = list(itertools.product("ab", "cde", "fghi"))
    chosen = covering(cases)
    both = lambda cases: set().union(*(tuples(case, 2) for case in cases))
    assert both(chosen) == both(cases)
    assert 3 * 4 <= len(chosen) <= 16
    assert len(covering(cases, 1)) == 4


def pytest_generate_tests(metafunc):
    if "case" in metafunc.fixturenames:
        cases, more = list(filter(exists, itertools.product(*FACTORS))), metafunc.config.getoption("laws")
        if metafunc.function is test_invariant_2_as_users_compile:
            cases = covering(cases, 1)
        elif not metafunc.config.getoption("full_laws"):
            cases = random.Random(1).sample(cases, more) if more else covering(cases)
        metafunc.parametrize("case", cases, ids=" ".join)


def test_invariant_2(case):
    encoding, wire, collective, mesh_name, dtype = case
    codec_of = lambda threshold: snap.Codec(ENCODINGS[encoding](threshold), WIRES[wire])
    sizes, _ = MESHES[mesh_name]
    devices = functools.reduce(lambda n, size: n * size, sizes.values())
    x = sample((2 * devices, 16), dtype)
    assert_same(collective, *both(PAIRS[collective], codec_of, x, PER_CHANNEL, mesh_name=mesh_name))


@pytest.mark.optimized
def test_invariant_2_as_users_compile(case):
    test_invariant_2(case)
