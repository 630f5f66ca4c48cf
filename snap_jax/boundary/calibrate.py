"""Calibrate: where a boundary starts, from what crosses it before anything is coded.

Law: a calibrated boundary without a codec changes nothing but what its dims leave out, the directions of least variance
(Karhunen-Loeve); its threshold, one for all channels, is the largest at which the spikes have the bits asked for.

One step for all channels is what a budget wants of a squared error (reverse water-filling: Cover and Thomas, 10.3.3);
learning does the rest.
"""

import dataclasses
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from snap_jax.boundary import rate_estimate
from snap_jax.boundary.boundary import Boundary
from snap_jax.boundary.token_groups import loudness
from snap_jax.codecs.codec import Codec
from snap_jax.encodings import Encoding, Int
from snap_jax.wires import Rans, frequency_tables

_GRID = np.geomspace(8.0, 1 / 256, 160)  # thresholds to try, in standard deviations, the largest first


def calibrate(
    boundary: Boundary, x: Float[Array, "... features"], context: Array | None = None, *, bits: float
) -> None:
    """Sets mean, basis and threshold of a boundary from a sample of what crosses it.

    Args:
      boundary: changed in place.
      x: the sample; some thousand vectors.
      context: of the sample, for a boundary that predicts.
      bits: entropy an element of `x` that the spikes start with; `Int` takes its step from its bits instead.
    """
    if boundary.transform is not None:
        _set_basis(boundary, np.asarray(x, np.float64).reshape(-1, x.shape[-1]))
        set_order(boundary, boundary.sender(x, context), context)
    codec = boundary.codec
    if codec is None or codec.encoding.threshold is None:
        return
    z = boundary.prepare(x, context).reshape(-1, boundary.token_groups * boundary.sent_channels)
    if isinstance(codec.encoding, Int):
        threshold = learned_step(z, codec.encoding.symbols.stop - 1)
    else:
        threshold = _threshold(codec.encoding, z, bits / boundary.share)
    shape = boundary.log_threshold.shape
    boundary.log_threshold[...] = jnp.broadcast_to(jnp.log(threshold), (z.shape[-1],)).reshape(shape)


def set_order(boundary: Boundary, z: Float[Array, "... dims"], tokens: Array | None) -> None:
    """Sorts tokens by how loud what is sent of them is, on both ends, for a boundary with segments.

    Args:
      boundary: changed in place.
      z: what its sender made of a sample, as it was before it was arranged.
      tokens: of the sample.
    """
    for end in (boundary.sender, boundary.receiver) if boundary.transform is not None else ():
        if end.order is not None and tokens is not None:
            end.order.loudness[...] = loudness(z, tokens, len(end.order.loudness[...]))


def fit_wire(boundaries: Sequence[Boundary], sent: Sequence[Float[Array, "... channels"]]) -> None:
    """Gives the `Rans` wires of boundaries one book learned from what they are about to send; others stay as they are.

    One book, since boundaries of one program share their wire; it lists the tables of each boundary's channels.
    """
    coded = [
        (boundary, boundary.codec.wire, _counts(boundary.codec, z))
        for boundary, z in zip(boundaries, sent, strict=True)
        if boundary.codec is not None and isinstance(boundary.codec.wire, Rans)
    ]
    if not coded:
        return
    book = frequency_tables.fit(np.concatenate([counts for _, _, counts in coded]))
    lengths = np.log2(frequency_tables.TOTAL / np.asarray(book))
    lists = tuple(sorted({tuple((counts @ lengths.T).argmin(-1).tolist()) for _, _, counts in coded}))
    for boundary, wire, _ in coded:
        boundary.set_wire(dataclasses.replace(wire, learned=book, lists=lists))


def _counts(codec: Codec, z: Float[Array, "... channels"]) -> np.ndarray:
    """How often each symbol occurs in each channel, `[channel, level]`."""
    rows = np.asarray(codec.spikes(z)).reshape(-1, z.shape[-1])
    return np.stack([(rows == s).sum(0) for s in codec.encoding.symbols], -1)


def learned_step(z: Float[Array, "n channels"], limit: int) -> Float[Array, " channels"]:
    """`2 E|z| / sqrt(limit)` a channel: where a learned step starts (LSQ, Esser et al. 2020).

    >>> learned_step(jnp.array([[1.0], [-3.0]]), 4).tolist()
    [2.0]
    """
    return jnp.maximum(2 * jnp.abs(z).mean(0) / max(limit, 1) ** 0.5, 1e-6)


def _set_basis(boundary: Boundary, rows: np.ndarray) -> None:
    mean = rows.mean(0)
    _, vectors = np.linalg.eigh(np.cov(rows.T))
    basis = jnp.asarray(vectors[:, ::-1][:, : boundary.channels].copy(), jnp.float32)
    for end in (boundary.sender, boundary.receiver):
        if end.predicts:  # what is predicted is turned with the basis
            turned = boundary.receiver.basis.value @ basis
            end.predictor.output[...] = end.predictor.output[...] @ turned
    boundary.sender.basis.set(basis)
    boundary.receiver.basis.set(basis.T)
    for end in (boundary.sender, boundary.receiver):
        end.mean.set(jnp.asarray(mean, jnp.float32))


def _threshold(encoding: Encoding, z: Array, bits: float) -> Array:
    """The largest on the grid whose spikes have `bits` an element, else that with the most."""
    scale = jnp.sqrt(jnp.mean(jnp.square(z)))
    most, best = -1.0, scale
    for step in scale * _GRID:
        found = float(rate_estimate.bits_per_element(encoding.with_threshold(step), z))
        if found >= bits:
            return step
        if found > most:
            most, best = found, step
    return best
