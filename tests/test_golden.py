"""Golden: what the library computes is what it computed when the table was recorded, bit for bit.

`tests/golden/api.py` holds every name of the library that is used here; `python -m
tests.golden.record` rewrites the table.
"""

import jax
import pytest

from tests.golden import cases, table

# What XLA rounds when it optimizes shows here. Other sections choose how they compile, or count bytes and joules.
AS_USERS_COMPILE = ("quantized", "boundaries")
SECTIONS = [pytest.param(s, marks=pytest.mark.optimized if s in AS_USERS_COMPILE else ()) for s in cases.SECTIONS]


@pytest.mark.parametrize("section", SECTIONS)
def test_values_are_those_recorded(section):
    found = cases.SECTIONS[section]()
    recorded = {key: value for key, value in table.load().items() if _section(key) == [section]}
    if not jax.__version__.startswith(table.RECORDED_WITH):
        found, recorded = (_exact(values) for values in (found, recorded))
    different = table.differences(recorded, found)
    assert not different, f"{len(different)} of {len(recorded)} keys differ:\n" + "\n".join(different)


def test_every_recorded_key_is_of_one_section():
    assert [key for key in table.load() if len(_section(key)) != 1] == []


def _section(key):
    plain = key.removeprefix(cases.INEXACT)
    return [section for section, prefixes in cases.PREFIXES.items() if plain.startswith(prefixes)]


def _exact(values):
    return {key: value for key, value in values.items() if not key.startswith(cases.INEXACT)}
