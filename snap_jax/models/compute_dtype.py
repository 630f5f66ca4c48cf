"""Precision: what a model computes in, apart from what its parameters are kept in.

Law: parameters and their gradients stay float32; only what layers compute is rounded.
"""

import jax.numpy as jnp
from flax import nnx

_LAYERS = (
    nnx.Linear, nnx.LinearGeneral, nnx.Conv, nnx.Embed, nnx.LayerNorm, nnx.RMSNorm, nnx.GroupNorm
)  # fmt: skip


def compute_in(model: nnx.Module, dtype: jnp.dtype) -> None:
    """Makes every layer of `model` compute in `dtype`: it casts its parameters and its input on the way.

    Flax takes the statistics of a norm in float32 all the same.

    >>> layer = nnx.Linear(2, 2, rngs=nnx.Rngs(0))
    >>> compute_in(layer, jnp.dtype("bfloat16"))
    >>> layer(jnp.ones(2)).dtype, layer.kernel.dtype
    (dtype(bfloat16), dtype('float32'))
    """
    for _, module in nnx.iter_modules(model):
        if isinstance(module, _LAYERS):
            module.dtype = dtype
