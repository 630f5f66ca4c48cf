"""Law 2 for encodings x wires x collectives x meshes x dtypes: value, gradient of the input and of the threshold.

Every pair of entries meets in some case; `--full-laws` tries them all, `--laws N` another N of them at random.
"""

import functools
import itertools
import random

import jax

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


def pairs(case):
    return set(itertools.combinations(enumerate(case), 2))


def covering(cases, seed=0):
    """Few of `cases`, in which every pair of entries meets that meets anywhere: greedy, from random candidates."""
    draw = random.Random(seed)
    left, chosen = set().union(*map(pairs, cases)), []
    by_pair = {}
    for case in cases:
        for pair in pairs(case):
            by_pair.setdefault(pair, []).append(case)
    while left:
        candidates = draw.choices(by_pair[min(left)], k=60)
        chosen.append(max(candidates, key=lambda case: len(pairs(case) & left)))
        left -= pairs(chosen[-1])
    return chosen


def test_covering_meets_every_pair_with_few():
    cases = list(itertools.product("ab", "cde", "fghi"))
    chosen = covering(cases)
    assert set().union(*map(pairs, chosen)) == set().union(*map(pairs, cases))
    assert 3 * 4 <= len(chosen) <= 16


def pytest_generate_tests(metafunc):
    if "case" in metafunc.fixturenames:
        cases, more = list(filter(exists, itertools.product(*FACTORS))), metafunc.config.getoption("laws")
        if not metafunc.config.getoption("full_laws"):
            cases = random.Random(1).sample(cases, more) if more else covering(cases)
        metafunc.parametrize("case", cases, ids=" ".join)


def test_law_2(case):
    encoding, wire, collective, mesh_name, dtype = case
    codec_of = lambda threshold: snap.Codec(ENCODINGS[encoding](threshold), WIRES[wire])
    sizes, _ = MESHES[mesh_name]
    devices = functools.reduce(lambda n, size: n * size, sizes.values())
    x = sample((2 * devices, 16), dtype)
    assert_same(collective, *both(PAIRS[collective], codec_of, x, PER_CHANNEL, mesh_name=mesh_name))
