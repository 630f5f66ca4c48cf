"""Freezing: channels and ticks that do not earn their bits leave the wire for good.

Law: a frozen boundary gives, bit for bit, what the silenced one gave; its payload is smaller, in the compiled program
too, since what is frozen has no place in it.
"""

import dataclasses
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from snap_jax.boundary.boundary import Boundary
from snap_jax.encodings import Count
from snap_jax.errors import UsageError

_NEVER = 60.0  # log of a threshold that nothing reaches


@dataclasses.dataclass(frozen=True)
class Frozen:
    """What was frozen: for reports.

    Attributes:
      channels: how many there were, and how many are left.
      limit: most spikes an element could fire before and can now; `None` where the encoding has no such limit.
    """

    channels: tuple[int, int]
    limit: tuple[int, int] | None


def silence(boundary: Boundary, channels: Sequence[int]) -> None:
    """Raises the thresholds of these channels out of reach: they never fire again, whatever comes.

    Raises:
      UsageError: for a boundary without thresholds.
    """
    if boundary.codec is None or boundary.codec.encoding.threshold is None:
        raise UsageError("silence: this boundary has no threshold to raise: use a spiking codec")
    index = jnp.asarray(list(channels), jnp.int32)
    boundary.log_threshold[...] = boundary.log_threshold[...].at[..., index].set(_NEVER)


def idle_channels(
    boundaries: Sequence[Boundary], sent: Sequence[Float[Array, "... channels"]], *, least_rate: float
) -> tuple[int, ...]:
    """Channels that fire at most at `least_rate` on every boundary, given a sample of what each is about to send."""
    rates = [
        np.asarray(boundary.codec.spikes(z) != 0).reshape(-1, boundary.sent_channels).mean(0)
        for boundary, z in zip(boundaries, sent, strict=True)
        if boundary.codec is not None
    ]
    return tuple(int(c) for c in np.flatnonzero(np.max(rates, 0) <= least_rate))


def freeze(boundaries: Sequence[Boundary], *, limit: int | None = None) -> Frozen:
    """Takes channels that all boundaries silenced off the wire: one program has them, so they share what is left.

    Args:
      boundaries: changed in place.
      limit: most spikes an element may fire from now on, for `Count`: ticks above it are never sent.

    Raises:
      UsageError: if nothing would be left, channels are frozen already, or `limit` does not fit the encoding.
    """
    first, silent = boundaries[0], set.intersection(*map(_silenced, boundaries))
    live = tuple(c for c in range(first.channels) if c not in silent)
    if not live:
        raise UsageError(f"freeze: all {first.channels} channels are silent: leave one, or drop the boundary")
    if first.live is not None:
        raise UsageError(f"freeze: {first.channels - len(first.live)} channels are frozen already: freeze once")
    before = _limit_of(first)
    for boundary in boundaries:
        boundary.live = nnx.static(live)
        if limit is not None:
            _lower_limit(boundary, limit)
    return Frozen((first.channels, len(live)), None if before is None else (before, _limit_of(first) or before))


def _silenced(boundary: Boundary) -> set[int]:
    if boundary.codec is None or boundary.codec.encoding.threshold is None:
        return set()
    silent = np.asarray(boundary.log_threshold[...]).reshape(-1, boundary.channels) >= _NEVER
    return {int(c) for c in np.flatnonzero(silent.all(0))}


def most_spikes(boundaries: Sequence[Boundary], sent: Sequence[Float[Array, "... channels"]]) -> int:
    """Most spikes that any element of the samples fires."""
    return max(
        int(jnp.max(jnp.abs(b.codec.spikes(z).astype(jnp.int32))))
        for b, z in zip(boundaries, sent, strict=True)
        if b.codec is not None
    )


def _limit_of(boundary: Boundary) -> int | None:
    encoding = boundary.codec.encoding if boundary.codec else None
    return encoding.limit if isinstance(encoding, Count) else None


def _lower_limit(boundary: Boundary, limit: int) -> None:
    codec = boundary.codec
    if codec is None or not isinstance(codec.encoding, Count) or not 1 <= limit <= codec.encoding.limit:
        raise UsageError(f"freeze: limit={limit} does not lower that of {codec}: use a Count and a lower limit")
    boundary.lower_limit(limit)
