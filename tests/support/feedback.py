"""Signals and a mesh for tests of delta streams and error feedback."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec as P

from snap_jax.parallel.mesh import auto_mesh

VARYING = P("x")


def on(devices, function, *args, out_specs=VARYING, in_specs=VARYING):
    """`function` inside shard_map, jitted; results as numpy."""
    mapped = jax.shard_map(function, mesh=auto_mesh({"x": devices}), in_specs=in_specs, out_specs=out_specs)
    return jax.jit(mapped)(*args)


def ar1(ticks, *shape, rho=0.9):
    """A stationary AR(1) signal of unit variance: `x_t = rho x_{t-1} + sqrt(1 - rho^2) w_t`."""
    w = np.random.default_rng(0).standard_normal((ticks, *shape)).astype(np.float32)
    for t in range(1, ticks):
        w[t] = rho * w[t - 1] + np.sqrt(1 - rho**2) * w[t]
    return jnp.asarray(w)
