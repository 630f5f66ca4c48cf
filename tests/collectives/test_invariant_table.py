"""Invariant 2 in every setting: value, gradients of the input and the threshold; wires of several sizes are poisoned.

Settings are encodings, wires, collectives, meshes, dtypes, typed or untyped axes, kinds of thresholds, and values that
overflow. Every pair of entries meets in some case; `--full-laws` tries each encoding on each wire in each collective,
with random entries of the others, `--laws N` another N cases at random. Every entry meets in some case that is compiled
as users compile, since what XLA fuses it may round differently.
"""

import contextlib
import functools
import itertools
import math
import random

import jax
import jax.numpy as jnp
import pytest

import snap_jax as snap
from tests.support.poisoned import Poisoned
from tests.support.programs import (
    ENCODINGS,
    MESHES,
    PAIRS,
    PER_CHANNEL,
    SUMS,
    VMAP,
    WIRES,
    assert_same,
    both,
    group_size,
    sample,
)

DTYPES = ("float32", "bfloat16", "float16", "float64")
TYPES = ("typed", "untyped")  # check_vma
# Those of 16 channels, and of all; integers are 1 and 2.
THRESHOLDS = {
    "channels": lambda: PER_CHANNEL,
    "bfloat16": lambda: PER_CHANNEL.astype(jnp.bfloat16),
    "float64": lambda: PER_CHANNEL.astype("float64"),
    "int32": lambda: jnp.arange(16) % 2 + 1,
    "array": lambda: jnp.asarray(0.7),
    "constant": lambda: 0.7,
}
SCALES = {"ordinary": 1.0, "large": 2e4}  # 3 * 2e4 fits into a float16, twice that does not
FACTORS = (
    tuple(ENCODINGS),
    tuple(WIRES),
    tuple(PAIRS),
    (*MESHES, VMAP),
    DTYPES,
    TYPES,
    tuple(THRESHOLDS),
    tuple(SCALES),
)


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
    """What does not add up has no sum; `lax` gathers to an untyped axis in one way only, and float64 needs its mode."""
    encoding, wire, collective, mesh, dtype, types, threshold, scale = case
    if collective in SUMS and not ENCODINGS[encoding](1.0).summable:
        return False
    if mesh == VMAP and (types == "typed" or collective == "ppermute"):  # JAX's vmap of it takes whole rings only
        return False
    if collective == "all_gather-invarying" and types == "untyped":
        return False
    if (threshold == "float64" and dtype != "float64") or (threshold == "int32" and scale == "large"):
        return False
    return can_be_sent(encoding, wire)


def covering(factors, exists, length=2, seed=0):
    """Few cases in which every `length` entries meet that can: greedy, from random candidates."""
    draw, chosen = random.Random(seed), []
    tuples = lambda case: set(itertools.combinations(enumerate(case), length))
    entries = [[(i, entry) for entry in factor] for i, factor in enumerate(factors)]
    left = {met for some in itertools.combinations(entries, length) for met in itertools.product(*some)}

    def candidates(met):
        drawn = ([draw.choice(factor) for factor in factors] for _ in range(200))
        completed = (tuple(dict(met).get(i, entry) for i, entry in enumerate(case)) for case in drawn)
        return list(itertools.islice(filter(exists, completed), 40))

    while left:
        met = min(left)
        if found := candidates(met):
            chosen.append(max(found, key=lambda case: len(tuples(case) & left)))
            left -= tuples(chosen[-1])
        left.discard(met)
    return chosen


def test_covering_meets_every_pair_that_exists_with_few():
    factors = ("ab", "cde", "fghi")
    allowed = lambda case: case[:2] != ("a", "c")
    chosen = covering(factors, allowed)
    both = lambda cases: set().union(*(itertools.combinations(enumerate(case), 2) for case in cases))
    assert both(chosen) == both(filter(allowed, itertools.product(*factors)))
    assert 3 * 4 <= len(chosen) <= 16
    assert len(covering(factors, allowed, 1)) == 4


def drawn(count, seed=1):
    """Cases at random."""
    draw = random.Random(seed)
    cases = (tuple(map(draw.choice, FACTORS)) for _ in itertools.count())
    return itertools.islice(filter(exists, cases), count)


def full():
    """Each encoding on each wire in each collective once, with random entries of the other columns."""
    draw = random.Random(2)
    for case in itertools.product(*FACTORS[:3]):
        rest = ((*case, *map(draw.choice, FACTORS[3:])) for _ in range(100))
        yield from itertools.islice(filter(exists, rest), 1)


def pytest_generate_tests(metafunc):
    if "case" in metafunc.fixturenames:
        more = metafunc.config.getoption("laws")
        if metafunc.function is test_invariant_2_as_users_compile:
            cases = covering(FACTORS, exists, 1)
        elif metafunc.config.getoption("full_laws"):
            cases = full()
        else:
            cases = drawn(more) if more else covering(FACTORS, exists)
        metafunc.parametrize("case", list(cases), ids="-".join)


def test_invariant_2(case):
    encoding, wire, collective, mesh, dtype, types, threshold, scale = case
    with jax.enable_x64(True) if dtype == "float64" else contextlib.nullcontext():
        given, factor = THRESHOLDS[threshold](), SCALES[scale]
        constant = isinstance(given, float)
        scaled = (lambda t: t) if factor == 1 else (lambda t: factor * t)
        codec_of = lambda t: snap.Codec(ENCODINGS[encoding](scaled(given if constant else t)), WIRES[wire])
        rows = group_size(mesh) if collective.endswith("untiled") else 2
        devices = 4 if mesh == VMAP else math.prod(MESHES[mesh][0].values())
        x = jnp.clip(factor * sample((rows * devices, 16)), -6e4, 6e4).astype(dtype)
        learned = jnp.ones(()) if constant else given
        settings = {"mesh_name": mesh, "check_vma": types == "typed", "scale": factor}
        assert_same(collective, *both(PAIRS[collective], codec_of, x, learned, **settings))


@pytest.mark.optimized
def test_invariant_2_as_users_compile(case):
    test_invariant_2(case)


@pytest.mark.parametrize("collective", ["all_gather", "psum_scatter"])
@pytest.mark.parametrize("wire", [snap.Ladder(), snap.Rans()], ids=["ladder", "rans"])
def test_invariant_2_with_all_sizes_of_a_default_wire(wire, collective):
    """Most of the table has few sizes, which compile faster."""
    codec_of = lambda t: snap.Codec(snap.Count(3, t), Poisoned(wire))
    for scale in (1.0, 0.1):  # many spikes, few spikes
        found = both(PAIRS[collective], codec_of, scale * sample((8, 16)), PER_CHANNEL, mesh_name="4")
        assert_same(collective, *found)
