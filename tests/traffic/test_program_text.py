"""Programs whose names may be those of another program are refused, and so is what is not compiled."""

import jax
import pytest

import snap_jax as snap
from snap_jax.errors import UsageError
from snap_jax.traffic.hlo import compiled_traffic
from snap_jax.traffic.program_text import names_in_cache_key, program_text
from tests.support.jaxpr_programs import X, gathered, sharded


@pytest.fixture
def set_config():
    """Set options of JAX for one test."""
    before = {}

    def setter(name, value):
        before.setdefault(name, getattr(jax.config, name))
        jax.config.update(name, value)

    yield setter
    for name, value in before.items():
        jax.config.update(name, value)


def program():
    return jax.jit(sharded(gathered)).lower(X).compile()


def test_programs_from_a_cache_that_ignores_names_are_refused(set_config, tmp_path):
    compiled = program()
    set_config("jax_compilation_cache_dir", str(tmp_path))
    set_config("jax_compilation_cache_include_metadata_in_key", False)
    with pytest.raises(UsageError, match="JAX_COMPILATION_CACHE_INCLUDE_METADATA_IN_KEY=true"):
        compiled_traffic(compiled)
    assert compiled_traffic(compiled.as_text())  # a text is taken as it is
    with names_in_cache_key():
        assert [t.path for t in compiled_traffic(program())] == ["up"]
    assert not jax.config.jax_compilation_cache_include_metadata_in_key
    set_config("jax_compilation_cache_dir", None)
    assert compiled_traffic(compiled)


def test_the_check_for_floats_asks_the_cache_for_its_own_names(set_config, tmp_path):
    set_config("jax_compilation_cache_dir", str(tmp_path))
    set_config("jax_compilation_cache_include_metadata_in_key", False)
    snap.assert_no_float_collectives(sharded(gathered), X, allow="up")


@pytest.mark.parametrize("make", [lambda f: f, lambda f: f.lower(X), lambda f: f.trace(X)])
def test_what_is_not_compiled_is_refused(make):
    with pytest.raises(UsageError, match=r"compiled_traffic: got .*lower\(\*args\)\.compile\(\)"):
        program_text(make(jax.jit(sharded(gathered))))


def test_compiled_traffic_takes_no_lowered_program():
    with pytest.raises(UsageError, match=r"compiled_traffic: got Lowered"):
        compiled_traffic(jax.jit(sharded(gathered)).lower(X))
