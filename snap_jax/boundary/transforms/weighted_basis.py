"""WeightedBasis: coordinates in which one step for all fits what an error costs."""

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from snap_jax.boundary.learned_codec import Constant
from snap_jax.boundary.transforms.base import Transform

_FLOOR = 0.1  # of the mean eigenvalue: what a few thousand gradients say of the least of them is noise


class WeightedBasis(Transform):
    """`prepare(x) = (x - center) W^(1/2) U`, and `restore(z)` is its inverse, `z U' W^(-1/2) + center`.

    An error d of `x` costs about `d' W d`. In these coordinates it costs its squared length, whatever its direction, so
    one step for all of them is best (reverse water-filling: Cover and Thomas, 10.3.3). U are the directions of most
    variance there; vectors are scaled to one length before, so that large ones do not rule.

    Args:
      features: size of the last axis of `x`.
      weight: W, e.g. the mean of `g g'` over gradients g of the loss with respect to `x`; `None` for the identity, with
        which these are principal components.
      rngs: not used; nothing is random.

    >>> basis = WeightedBasis(2, jnp.diag(jnp.array([4.0, 1.0])))
    >>> x = jnp.array([[1.0, 2.0], [-1.0, 0.5], [0.5, -3.0]])
    >>> basis.calibrate(x)
    >>> bool(jnp.allclose(basis.restore(basis.prepare(x)), x, atol=1e-5))
    True
    """

    def __init__(
        self,
        features: int,
        weight: Float[Array, "features features"] | np.ndarray | None = None,
        *,
        rngs: nnx.Rngs | None = None,
    ):
        self.channels = features
        self.weight = Constant(jnp.eye(features) if weight is None else jnp.asarray(weight, jnp.float32))
        self.center = nnx.Param(jnp.zeros(features))
        self.forward, self.inverse = nnx.Param(jnp.eye(features)), nnx.Param(jnp.eye(features))

    def prepare(self, x, context=None):
        """Return the coordinates of `x`."""
        return (x - self.center[...]) @ self.forward[...]

    def restore(self, z, context=None):
        """Return the vectors with these coordinates."""
        return z @ self.inverse[...] + self.center[...]

    def calibrate(self, x, context=None):
        """Set center and coordinates from a sample of vectors."""
        rows = np.asarray(x, np.float64).reshape(-1, x.shape[-1])
        center = np.median(rows, 0)  # outliers do not move it
        values, vectors = np.linalg.eigh(np.asarray(self.weight[...], np.float64))
        root = np.sqrt(values / values.mean() + _FLOOR)
        scaled = (rows - center) @ (vectors * root)
        scaled /= np.maximum(np.linalg.norm(scaled, axis=-1, keepdims=True), 1e-30)
        directions = np.linalg.eigh(scaled.T @ scaled)[1][:, ::-1]
        self.center[...] = jnp.asarray(center, jnp.float32)
        self.forward[...] = jnp.asarray((vectors * root) @ directions, jnp.float32)
        self.inverse[...] = jnp.asarray(directions.T @ (vectors / root).T, jnp.float32)
