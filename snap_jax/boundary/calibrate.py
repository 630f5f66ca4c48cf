"""Calibrate: start a boundary from a sample of what it will send, before anything is coded.

A calibrated boundary without a codec changes nothing but what its rank leaves out, the directions of least variance.
Its threshold, one for all channels, is the largest at which the spikes have the bits asked for. One step for all
channels is what a budget wants of a squared error (reverse water-filling: Cover and Thomas, 10.3.3); learning does the
rest.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from snap_jax.boundary import rate_estimate
from snap_jax.boundary.boundary import Boundary
from snap_jax.boundary.counters import histogram
from snap_jax.encodings import Encoding
from snap_jax.errors import UsageError
from snap_jax.wires import Rans, RowRans, frequency_tables, row_rans

_GRID = np.geomspace(8.0, 1 / 256, 160)  # thresholds to try, in standard deviations, the largest first
_RIDGE = 0.05  # of the variance of an input
_MOST_ELEMENTS = 2**21  # of a sample: on more, a search takes minutes and finds the same
_WIDE = np.geomspace(8.0, 1 / 4096, 160)  # of numbers in units of their own scale: outliers are far away


def calibrate(
    boundary: Boundary, x: Float[Array, "... features"], context: Array | None = None, *, bits: float
) -> None:
    """Set transforms and threshold of a boundary from a sample of what it will get.

    Args:
      boundary: changed in place; call it before training.
      x: the sample; some thousand vectors.
      context: of the sample, for a boundary that uses it.
      bits: entropy per element of `x` that the spikes start with. An encoding with a rule of its own for the first
        threshold, such as `Int`, takes it from the sample instead.

    Raises:
      UsageError: for a sample with a NaN or an infinity, for one of which nothing but zeros is left to send, and if the
        codec cuts off nearly all of it, because a few numbers are far larger than the others.
    """
    calibrate_threshold(boundary, calibrate_transforms(boundary, x, context), bits=bits)


def calibrate_transforms(
    boundary: Boundary, x: Float[Array, "... features"], context: Array | None = None
) -> Float[Array, "... channels"]:
    """Set the transforms of a boundary from a sample, and return what they make of it.

    Raises:
      UsageError: for a sample with a NaN or an infinity.
    """
    _check_sample("holds a NaN or an infinity", bool(jnp.isfinite(x).all()))
    z = x
    for sending, receiving in zip(boundary.sender.links, boundary.receiver.links, strict=True):
        sending.calibrate(z, context)
        receiving.calibrate(z, context)
        z = sending.prepare(z, context)
    return z


def calibrate_threshold(boundary: Boundary, z: Float[Array, "... channels"], *, bits: float) -> None:
    """Set the threshold of a boundary from a sample of what it will send; see `calibrate`.

    Raises:
      UsageError: if there is nothing but zeros to send, and if the codec cuts off nearly all of the sample, because a
        few numbers are far larger than the others.
    """
    codec = boundary.codec
    if codec is None or codec.encoding.threshold is None:
        return
    _check_sample("leaves nothing but zeros to send, or is empty", bool(jnp.any(z != 0)))
    z = z[:: max(1, z.size // _MOST_ELEMENTS)]
    units = codec.encoding.normalized(z)
    threshold = codec.encoding.initial_threshold(units.reshape(-1, z.shape[-1]))
    if threshold is None:
        threshold = _threshold(codec.encoding, z, units, bits / boundary.share)
    _check_clipping(codec.encoding.with_threshold(threshold), z)
    for log_threshold in boundary.thresholds:
        log_threshold[...] = jnp.broadcast_to(jnp.log(threshold), log_threshold.shape)


def outlier_tokens(x: Float[Array, "batch time features"], factor: float = 8.0) -> int:
    """Return how many of the first tokens of a sequence hold numbers `factor` times as large as the other tokens do.

    The largest magnitude of a token is compared with its median over all tokens. These tokens are for `Exact`, or for
    the mean of its own that `EmbeddingPrediction` gives the first one.

    >>> outlier_tokens(jnp.ones((2, 8, 3)).at[:, 0, 1].set(400.0))
    1
    """
    peaks = jnp.abs(x).max(-1)
    large = jnp.median(peaks, axis=0) > factor * jnp.median(peaks)
    return int(jnp.argmin(large)) if not large.all() else large.size


def fit_wire(boundaries: Sequence[Boundary], sent: Sequence[Float[Array, "... channels"]]) -> None:
    """Give `Rans` and `RowRans` wires frequency tables learned from what they will send; leave other wires.

    One set of tables, since boundaries of one program share their wire; it lists the tables of each boundary's
    channels.

    Args:
      boundaries: changed in place.
      sent: a sample per boundary of what its `prepare` returns.
    """
    coded = [(b, b.codec, z) for b, z in zip(boundaries, sent, strict=True) if b.codec is not None]
    for kind, fit in ((Rans, _channel_tables), (RowRans, _row_tables)):
        alike = [(boundary, codec, z) for boundary, codec, z in coded if type(codec.wire) is kind]
        tables = fit([(codec, z) for _, codec, z in alike]) if alike else {}
        for boundary, codec, _ in alike:
            boundary.set_wire(dataclasses.replace(codec.wire, **tables))  # pyright: ignore[reportArgumentType]


def _channel_tables(coded: Sequence[tuple[Any, Array]]) -> dict[str, frequency_tables.Rows]:
    counts = [np.asarray(histogram(codec.spikes(z), codec.encoding.symbols, z.shape[-1])) for codec, z in coded]
    tables = frequency_tables.fit(np.concatenate(counts))
    lengths = np.log2(frequency_tables.TOTAL / np.asarray(tables))
    return {"learned": tables, "lists": tuple(sorted({tuple((c @ lengths.T).argmin(-1).tolist()) for c in counts}))}


def _row_tables(coded: Sequence[tuple[Any, Array]]) -> dict[str, frequency_tables.Rows]:
    return row_rans.fit([codec.spikes(z) for codec, z in coded], coded[0][0].encoding.symbols)


def token_weights(
    z: Float[Array, "... channels"], gradients: Float[Array, "... channels"], strength: float = 0.75
) -> Float[Array, " n"]:
    """Return `weights` of a `Scaled` encoding, so that tokens whose errors cost more get smaller ones.

    An error of variance s^2 in each number of a token costs about `s^2 |g|^2 / 2`. With one price of a bit for all
    tokens the best s is in proportion to 1 / |g|. A sender does not know g, so `log |g|^2` is predicted from what it
    has: the numbers of the token in units of their median, and the logarithm of that, by ridge regression.

    Args:
      z: a sample of what is sent.
      gradients: of the loss with respect to it; tokens without any are left out.
      strength: 0 gives all tokens one step, 1 trusts the prediction fully.

    >>> z = jnp.ones((64, 2)).at[::2].set(-1.0)
    >>> weights = token_weights(z, jnp.where(z > 0, 4.0, 1.0))
    >>> scales = [(weights[:2] @ jnp.full(2, sign) + weights[3]).item() for sign in (1.0, -1.0)]
    >>> scales[0] < scales[1] - 1  # in octaves
    True
    """
    rows, power = np.asarray(z, np.float64), np.sum(np.asarray(gradients, np.float64) ** 2, -1).reshape(-1)
    rows = rows.reshape(-1, z.shape[-1])
    kept = (power > 0) & np.any(rows != 0, -1)
    rows, target = rows[kept], np.log2(power[kept])
    median = np.median(np.abs(rows), -1, keepdims=True) + 1e-30
    seen = np.concatenate([np.clip(rows / median, -16, 16), np.log2(median)], -1)
    center, spread = seen.mean(0), seen.std(0) + 1e-9
    inputs = (seen - center) / spread
    ridge = _RIDGE * len(inputs) * np.eye(inputs.shape[1])
    found = np.linalg.solve(inputs.T @ inputs + ridge, inputs.T @ (target - target.mean())) / spread
    start = target.mean() - center @ found
    return jnp.asarray(-0.5 * strength * np.append(found, start), jnp.float32)


def _check_sample(problem: str, fine: bool) -> None:
    if not fine:
        raise UsageError(f"calibrate: the sample {problem}: give some thousand vectors as the model makes them")


@jax.jit
def _bits(encoding: Encoding, threshold: Array, z: Array) -> Array:
    return rate_estimate.bits_per_element(encoding.with_threshold(threshold), z)


_MOST_CLIPPED = 0.9  # of the energy


def _check_clipping(encoding: Encoding, z: Array) -> None:
    y, fired = encoding.quantize(z), encoding.fire(z).values
    ends = (fired == encoding.symbols[0]) | (fired == encoding.symbols[-1])
    clipped = jnp.sum(jnp.where(ends, jnp.maximum(jnp.abs(z) - jnp.abs(y), 0), 0) ** 2) / jnp.sum(z**2)
    if clipped > _MOST_CLIPPED:
        raise UsageError(
            f"calibrate: {type(encoding).__name__} with symbols up to {encoding.symbols[-1]} cuts off {clipped:.0%} of "
            'the energy of the sample: a few numbers are too large: use a scale per token, such as "count:7:token", '
            "Exact(..., tokens=1) if the first token is so large, or a higher limit"
        )


def _threshold(encoding: Encoding, z: Array, units: Array, bits: float) -> Array:
    """The largest on the grid whose spikes have `bits` per element, else that with the most."""
    scale = jnp.sqrt(jnp.mean(jnp.square(units)))
    most, best = -1.0, scale
    for step in scale * (_WIDE if encoding.relative else _GRID):
        found = float(_bits(encoding, step, z))
        if found >= bits:
            return step
        if found > most:
            most, best = found, step
    return best
