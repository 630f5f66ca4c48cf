"""Stream mixture: of a vector that holds several residual streams, send fewer mixtures of them.

Where layers write the same change to all streams (`models.streams`), most of what differs between the streams of a
channel is small. Mixing costs `2 kept` operations per number, where a `Basis` of the same rank costs `2 rank`.
"""

import dataclasses

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from snap_jax.boundary.transforms.base import Transform, TransformChain
from snap_jax.boundary.transforms.basis import ScaledParam
from snap_jax.boundary.transforms.token_means import TokenMeans
from snap_jax.errors import UsageError


class StreamMixture(Transform):
    """`prepare(x)_m = sum_i w_mi (x - mean)_i`, `restore(z)_i = sum_m w_mi z_m + mean_i`, with weights per channel.

    Args:
      features: size of the last axis of `x`: `streams` vectors of `features / streams` channels.
      streams: how many there are.
      kept: mixtures that are sent; at first the sums of neighbors, with orthonormal weights.
      lr_multiplier: as of `Basis`.
      rngs: not used; nothing is random.

    Raises:
      UsageError: unless `kept` divides `streams`, and `streams` the features.

    >>> mixture = StreamMixture(8, streams=4, kept=2)
    >>> z = mixture.prepare(jnp.arange(8.0))
    >>> z.shape, [f"{each:.2f}" for each in z]  # (0 + 2, 1 + 3, 4 + 6, 5 + 7) / sqrt 2
    ((4,), ['1.41', '2.83', '7.07', '8.49'])
    """

    def __init__(
        self, features: int, streams: int, kept: int, lr_multiplier: float = 0.25, *, rngs: nnx.Rngs | None = None
    ):
        if kept < 1 or streams % kept or features % streams:
            raise UsageError(
                f"StreamMixture: kept={kept} of streams={streams} of features={features}: use numbers that divide "
                "each other"
            )
        self.channels, self.share = kept * features // streams, kept / streams
        self.mean = ScaledParam(jnp.zeros((streams, features // streams)), lr_multiplier)
        groups = np.kron(np.eye(kept), np.full(streams // kept, (streams // kept) ** -0.5))
        weight = np.broadcast_to(groups[..., None], (*groups.shape, features // streams))
        self.weight = ScaledParam(jnp.asarray(weight, jnp.float32), lr_multiplier)

    def prepare(self, x, context=None):
        """Return the mixtures, `[..., kept channels]`."""
        apart = x - self.mean.value.reshape(-1)
        return jnp.concatenate([weighted_sum(apart, w) for w in self.weight.value], -1)

    def restore(self, z, context=None):
        """Return the streams that these mixtures stand for."""
        weight, apart = self.weight.value, z.reshape(*z.shape[:-1], *self._kept)
        streams = self.mean.value + sum(apart[..., m, None, :] * weight[m] for m in range(len(weight)))
        return streams.reshape(*z.shape[:-1], -1)

    def calibrate(self, x, context=None):
        """Set the mean, and for each channel the mixtures of most variance (Karhunen-Loeve)."""
        streams, channels = self.mean.value.shape
        rows = np.asarray(x, np.float64).reshape(-1, streams, channels)
        mean = rows.mean(0)
        apart = (rows - mean).transpose(2, 1, 0)
        _, vectors = np.linalg.eigh(apart @ apart.swapaxes(1, 2))
        kept = vectors[:, :, ::-1][:, :, : self._kept[0]].transpose(2, 1, 0)
        self.weight.set(jnp.asarray(kept.copy(), jnp.float32))
        self.mean.set(jnp.asarray(mean, jnp.float32))

    @property
    def _kept(self) -> tuple[int, int]:
        """Mixtures, and channels of each."""
        kept, _, channels = self.weight.learned.shape
        return kept, channels


@dataclasses.dataclass(frozen=True)
class SentStreams:
    """Makes `TokenMeans` and a `StreamMixture`, as `Boundary(transform=)` takes them; those of equal fields are equal.

    Attributes:
      streams: residual streams of the vector.
      kept: mixtures that are sent.
      context_tokens: tokens whose means are not sent; 0 for none.
      lr_multiplier: as of `Basis`.

    >>> made = SentStreams(4, kept=1, context_tokens=1)(8, rngs=nnx.Rngs(0))
    >>> [type(link).__name__ for link in made.links], made.channels
    (['TokenMeans', 'StreamMixture'], 2)
    """

    streams: int
    kept: int
    context_tokens: int = 0
    lr_multiplier: float = 0.25

    def __call__(self, features: int, *, rngs: nnx.Rngs) -> TransformChain:
        """Return the transforms of vectors of so many features."""
        mixture = StreamMixture(features, self.streams, self.kept, self.lr_multiplier, rngs=rngs)
        means = [TokenMeans(features, self.context_tokens)] if self.context_tokens else []
        return TransformChain(features, [*means, mixture])


def weighted_sum(
    x: Float[Array, "... features"], weight: Float[Array, "streams channels"]
) -> Float[Array, "... channels"]:
    """Return `sum_i w_i x_i` of the streams that lie side by side in `x`.

    One stream after the other: XLA on CPUs takes several times as long to sum an axis that is not the last. Sums are
    float32 at least.

    >>> weighted_sum(jnp.arange(4.0), jnp.array([[1.0, 1.0], [10.0, 100.0]])).tolist()  # 0 + 10 2, 1 + 100 3
    [20.0, 301.0]
    """
    weighted = x * weight.reshape(-1)
    wide = weighted.astype(jnp.promote_types(weighted.dtype, jnp.float32))
    first, *others = jnp.split(wide, len(weight), -1)
    return sum(others, start=first).astype(weighted.dtype)
