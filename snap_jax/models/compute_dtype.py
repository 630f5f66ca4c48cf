"""The dtype a model computes in, apart from the one its parameters are kept in.

Invariant: parameters and their gradients stay float32; only what layers compute is rounded.
"""

import jax.numpy as jnp
from flax import nnx


def compute_in(model: nnx.Module, dtype: jnp.dtype) -> None:
    """Make every layer of `model` compute in `dtype`: it casts its parameters and its input.

    A layer is a module with attributes `dtype` and `param_dtype`, as all of Flax have. Flax takes the statistics of a
    norm in float32 all the same.

    >>> layer = nnx.Linear(2, 2, rngs=nnx.Rngs(0))
    >>> compute_in(layer, jnp.dtype("bfloat16"))
    >>> layer(jnp.ones(2)).dtype, layer.kernel.dtype
    (dtype(bfloat16), dtype('float32'))
    """
    for _, module in nnx.iter_modules(model):
        if {"dtype", "param_dtype"} <= vars(module).keys():
            setattr(module, "dtype", dtype)  # noqa: B010
