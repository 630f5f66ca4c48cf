"""Eight emulated devices for every test and doctest."""

import jax
import numpy as np
import pytest

jax.config.update("jax_num_cpu_devices", 8)
jax.devices()


@pytest.fixture(autouse=True)
def _doctest_names(doctest_namespace):
    """What every doctest may use without importing it."""
    doctest_namespace.update(jax=jax, jnp=jax.numpy, np=np)
