"""Basis: send the coordinates of a vector in a learned basis, about a learned mean."""

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax
from jaxtyping import Array, Float

from snap_jax.boundary.transforms.base import Transform
from snap_jax.errors import UsageError


class ScaledParam(nnx.Module):
    """An array that is learned as `value / lr_multiplier`: a step of the optimizer moves it `lr_multiplier` as far.

    >>> mean = ScaledParam(jnp.zeros(2), lr_multiplier=0.25)
    >>> mean.learned[...] = mean.learned[...] + 0.5
    >>> mean.value.tolist()
    [0.125, 0.125]
    """

    def __init__(self, value: Float[Array, "..."], lr_multiplier: float):
        self.lr_multiplier = lr_multiplier
        self.learned = nnx.Param(value / lr_multiplier)

    @property
    def value(self) -> Float[Array, "..."]:
        """Return the array as it is applied."""
        return self.lr_multiplier * self.learned[...]

    def set(self, value: Float[Array, "..."]) -> None:
        """Replace the array."""
        self.learned[...] = value / self.lr_multiplier


class Basis(Transform):
    """`prepare(x) = (x - mean) @ basis` and `restore(z) = z @ basis.T + mean`, orthonormal columns at first.

    All that is sent goes through basis and mean, so a step of theirs changes the input of all later layers. They learn
    slower than the layers.

    Args:
      features: size of the last axis of `x`.
      rank: numbers sent per vector, at most `features`.
      lr_multiplier: how far an optimizer whose steps have one size (Adam) moves basis and mean, in its steps.
      rngs: not used; nothing is random.

    Raises:
      UsageError: for a rank above `features`.

    >>> basis = Basis(4, rank=2)
    >>> z = basis.prepare(jnp.ones((3, 4)))
    >>> z.shape, bool(jnp.allclose(basis.restore(z), 1.0, atol=1e-6))
    ((3, 2), True)
    """

    def __init__(self, features: int, rank: int, lr_multiplier: float = 0.25, *, rngs: nnx.Rngs | None = None):
        self.channels, self.share = rank, rank / features
        self.mean = ScaledParam(jnp.zeros(features), lr_multiplier)
        self.basis = ScaledParam(orthonormal(features, rank), lr_multiplier)

    def prepare(self, x, context=None):
        """Return `(x - mean) @ basis`."""
        return (x - lax.broadcast_to_rank(self.mean.value, x.ndim)) @ self.basis.value

    def restore(self, z, context=None):
        """Return `z @ basis.T + mean`."""
        return z @ self.basis.value.T + lax.broadcast_to_rank(self.mean.value, z.ndim)

    def calibrate(self, x, context=None):
        """Set the mean, and the directions of most variance (Karhunen-Loeve) as the basis."""
        rows = np.asarray(x, np.float64).reshape(-1, x.shape[-1])
        _, vectors = np.linalg.eigh(np.cov(rows.T))
        self.basis.set(jnp.asarray(vectors[:, ::-1][:, : self.channels].copy(), jnp.float32))
        self.mean.set(jnp.asarray(rows.mean(0), jnp.float32))


def orthonormal(features: int, rank: int) -> Float[Array, "features rank"]:
    """Return orthonormal columns: the identity where `rank == features`, else the slowest cosines (DCT-II).

    >>> basis = orthonormal(8, 3)
    >>> bool(jnp.allclose(basis.T @ basis, jnp.eye(3), atol=1e-6))
    True

    Raises:
      UsageError: for more columns than rows.
    """
    if rank > features:
        raise UsageError(f"orthonormal: rank={rank} of {features} features: use at most {features}")
    if rank == features:
        return jnp.eye(features)
    place, wave = jnp.arange(features, dtype=jnp.float32)[:, None] + 0.5, jnp.arange(rank, dtype=jnp.float32)[None]
    waves = jnp.cos(jnp.pi * place * wave / features) * (2 / features) ** 0.5
    return waves.at[:, 0].multiply(0.5**0.5)
