"""Channel pruning: channels that hardly ever fire are masked, then no longer sent.

Invariant: a pruned boundary returns, bit for bit, what the masked one returned. Its payload is smaller, in the compiled
program too.
"""

import dataclasses
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from snap_jax.boundary.boundary import Boundary
from snap_jax.boundary.transforms.pruned_channels import require_channels
from snap_jax.errors import UsageError

_NEVER = 60.0  # logarithm of a threshold that nothing reaches


@dataclasses.dataclass(frozen=True)
class Pruned:
    """What was pruned, for reports.

    Attributes:
      channels: how many were sent before, and how many are sent now.
      limit: the largest number of spikes per element before, and now.
    """

    channels: tuple[int, int]
    limit: tuple[int, int]


def mask_channels(boundary: Boundary, channels: Sequence[int]) -> None:
    """Raise the thresholds of these channels out of reach, so that they never fire again.

    Raises:
      UsageError: for a boundary without thresholds, and for channels that are not sent.
    """
    if not boundary.thresholds:
        raise UsageError("mask_channels: this boundary has no thresholds to raise: give it a codec with a threshold")
    if channels:
        require_channels("mask_channels", channels, boundary.channels)
    for threshold in boundary.thresholds:
        threshold[...] = threshold[...].at[..., jnp.asarray(list(channels), jnp.int32)].set(_NEVER)


def idle_channels(
    boundaries: Sequence[Boundary], sent: Sequence[Float[Array, "... channels"]], *, max_rate: float
) -> tuple[int, ...]:
    """Return the channels whose firing rate is at most `max_rate` on every boundary.

    Args:
      boundaries: that send the same channels.
      sent: a sample per boundary of what its `prepare` returns.
      max_rate: share of the elements that fire; 0 finds channels that never do.
    """
    rates = [np.asarray(spikes != 0).reshape(-1, spikes.shape[-1]).mean(0) for spikes in _spikes(boundaries, sent)]
    return tuple(int(c) for c in np.flatnonzero(np.max(rates, 0) <= max_rate))


def most_spikes(boundaries: Sequence[Boundary], sent: Sequence[Float[Array, "... channels"]]) -> int:
    """Return the largest number of spikes that any element of the samples fires."""
    return max(int(jnp.max(jnp.abs(spikes.astype(jnp.int32)))) for spikes in _spikes(boundaries, sent))


def prune(boundaries: Sequence[Boundary], *, limit: int | None = None) -> Pruned:
    """Stop sending the channels that are masked on all boundaries. One program has them, so they send the same.

    Args:
      boundaries: changed in place.
      limit: the largest number of spikes per element from now on, for an encoding that has such a limit.

    Raises:
      UsageError: if nothing would be left, or the encoding has no limit that can be lowered to this one.
    """
    channels, before = boundaries[0].channels, _limit(boundaries[0])
    masked = set.intersection(*map(_masked, boundaries))
    kept = [c for c in range(channels) if c not in masked]
    if not kept:
        raise UsageError(f"prune: all {channels} channels are masked: leave one, or drop the boundary")
    for boundary in boundaries:
        boundary.prune(kept)
        if limit is not None:
            boundary.lower_limit(limit)
    return Pruned((channels, len(kept)), (before, _limit(boundaries[0])))


def _masked(boundary: Boundary) -> set[int]:
    thresholds = [np.asarray(threshold[...]) for threshold in boundary.thresholds]
    return set(np.flatnonzero(np.min(thresholds, 0) >= _NEVER).tolist()) if thresholds else set()


def _limit(boundary: Boundary) -> int:
    return boundary.codec.encoding.symbols[-1] if boundary.codec else 0


def _spikes(boundaries: Sequence[Boundary], sent: Sequence[Array]) -> list[Array]:
    codecs = [boundary.codec for boundary in boundaries]
    return [codec.spikes(z) for codec, z in zip(codecs, sent, strict=True) if codec is not None]
