"""Eight emulated devices, quick compilation and repeatable examples for every test and doctest."""

import gc
import os
from pathlib import Path

# One cache of compiled programs for the processes of all sessions. Its key includes the names of operations, which the
# traffic report reads from compiled programs, but no line numbers, so that tests share programs.
os.environ.update(
    {
        "JAX_COMPILATION_CACHE_DIR": str(Path(__file__).with_name(".cache") / "programs"),
        "JAX_COMPILATION_CACHE_INCLUDE_METADATA_IN_KEY": "true",
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_TRACEBACK_IN_LOCATIONS_LIMIT": "0",
    }
    | os.environ
)

import jax
import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from tests.support import memory

# Compiling is most of the suite's time, and its programs are small: the compiler does not optimize them.
QUICK = "--xla_backend_optimization_level=0 --xla_cpu_parallel_codegen_split_count=1"
if jax.__version_info__ < (0, 11):  # later compilers do not know this flag
    QUICK += " --xla_cpu_use_fusion_emitters=false"

# A change is judged by what it changed: `pytest --hypothesis-profile=random` looks for new examples.
settings.register_profile("random", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("repeatable", settings.get_profile("random"), derandomize=True)
settings.load_profile("repeatable")


def pytest_addoption(parser):
    """Add the options that choose cases of the table of invariant 2."""
    parser.addoption("--full-laws", action="store_true", help="each encoding on each wire in each collective")
    parser.addoption("--laws", type=int, default=0, metavar="N", help="N cases of the law table at random")


def pytest_configure(config):
    """Start JAX with eight devices; `-m optimized` compiles as users do, everything else quickly."""
    if config.option.markexpr != "optimized":
        os.environ.setdefault("XLA_FLAGS", QUICK)
    jax.config.update("jax_num_cpu_devices", 8)
    jax.devices()
    gc.set_threshold(100_000, 20, 100)  # tracing makes many objects and little garbage: a fifth less time


def pytest_collection_finish():
    """Look for garbage only among what tests make."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="module")
def _bounded_memory():
    """Keep a process below a few gigabytes: compiled programs stay in memory until they are released."""
    yield
    memory.release()


@pytest.fixture(autouse=True)
def _doctest_names(doctest_namespace):
    """Name what every doctest may use without importing it."""
    doctest_namespace.update(jax=jax, jnp=jax.numpy, np=np)
