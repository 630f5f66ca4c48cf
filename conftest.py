"""Eight emulated devices for every test and doctest; the same examples in every run."""

import os

# Compiling is most of the suite's time, and its programs are tiny: the compiler does not optimize them.
os.environ["XLA_FLAGS"] = " ".join(
    [os.environ.get("XLA_FLAGS", ""), "--xla_backend_optimization_level=0 --xla_cpu_parallel_codegen_split_count=1"]
)

import jax
import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from jax.experimental.compilation_cache import compilation_cache

# A change is judged by what it changed: `pytest --hypothesis-profile=random` looks for new examples.
settings.register_profile("random", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("repeatable", settings.get_profile("random"), derandomize=True)
settings.load_profile("repeatable")

jax.config.update("jax_num_cpu_devices", 8)
jax.devices()


@pytest.fixture(autouse=True)
def _doctest_names(doctest_namespace):
    """What every doctest may use without importing it."""
    doctest_namespace.update(jax=jax, jnp=jax.numpy, np=np)


@pytest.fixture(scope="module")
def compiled_once_and_fast(tmp_path_factory):
    """For runs that share their programs and take a second each: optimizing and compiling them again is most."""
    jax.config.update("jax_disable_most_optimizations", True)
    jax.config.update("jax_compilation_cache_dir", str(tmp_path_factory.mktemp("programs")))
    compilation_cache.reset_cache()
    yield
    jax.config.update("jax_disable_most_optimizations", False)
    jax.config.update("jax_compilation_cache_dir", None)
    compilation_cache.reset_cache()


def pytest_addoption(parser):
    """How much of the law table to try."""
    parser.addoption("--full-laws", action="store_true", help="every case of the law table")
    parser.addoption("--laws", type=int, default=0, metavar="N", help="N cases of the law table at random")
