"""Calibrate: start a boundary from a sample of what it will send, before anything is coded.

A calibrated boundary without a codec changes nothing but what its rank leaves out, the directions of least variance.
Its threshold, one for all channels, is the largest at which the spikes have the bits asked for. One step for all
channels is what a budget wants of a squared error (reverse water-filling: Cover and Thomas, 10.3.3); learning does the
rest.
"""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from snap_jax.boundary import rate_estimate
from snap_jax.boundary.boundary import Boundary
from snap_jax.boundary.counters import histogram
from snap_jax.encodings import Encoding
from snap_jax.errors import UsageError
from snap_jax.wires import Rans, frequency_tables

_GRID = np.geomspace(8.0, 1 / 256, 160)  # thresholds to try, in standard deviations, the largest first


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
      UsageError: for a sample with a NaN or an infinity, and for one of which nothing but zeros is left to send.
    """
    _check_sample("holds a NaN or an infinity", bool(jnp.isfinite(x).all()))
    z = x
    for sending, receiving in zip(boundary.sender.links, boundary.receiver.links, strict=True):
        sending.calibrate(z, context)
        receiving.calibrate(z, context)
        z = sending.prepare(z, context)
    codec = boundary.codec
    if codec is None or codec.encoding.threshold is None:
        return
    _check_sample("leaves nothing but zeros to send, or is empty", bool(jnp.any(z != 0)))
    z = z.reshape(-1, z.shape[-1])
    threshold = codec.encoding.initial_threshold(z)
    if threshold is None:
        threshold = _threshold(codec.encoding, z, bits / boundary.share)
    for log_threshold in boundary.thresholds:
        log_threshold[...] = jnp.broadcast_to(jnp.log(threshold), log_threshold.shape)


def fit_wire(boundaries: Sequence[Boundary], sent: Sequence[Float[Array, "... channels"]]) -> None:
    """Give the `Rans` wires of boundaries frequency tables learned from what they will send; leave other wires.

    One set of tables, since boundaries of one program share their wire; it lists the tables of each boundary's
    channels.

    Args:
      boundaries: changed in place.
      sent: a sample per boundary of what its `prepare` returns.
    """
    coded = [
        (boundary, codec.wire, np.asarray(histogram(codec.spikes(z), codec.encoding.symbols, z.shape[-1])))
        for boundary, codec, z in zip(boundaries, [b.codec for b in boundaries], sent, strict=True)
        if codec is not None and isinstance(codec.wire, Rans)
    ]
    if not coded:
        return
    tables = frequency_tables.fit(np.concatenate([counts for _, _, counts in coded]))
    lengths = np.log2(frequency_tables.TOTAL / np.asarray(tables))
    lists = tuple(sorted({tuple((counts @ lengths.T).argmin(-1).tolist()) for _, _, counts in coded}))
    for boundary, wire, _ in coded:
        boundary.set_wire(dataclasses.replace(wire, learned=tables, lists=lists))


def _check_sample(problem: str, fine: bool) -> None:
    if not fine:
        raise UsageError(f"calibrate: the sample {problem}: give some thousand vectors as the model makes them")


@jax.jit
def _bits(encoding: Encoding, threshold: Array, z: Array) -> Array:
    return rate_estimate.bits_per_element(encoding.with_threshold(threshold), z)


def _threshold(encoding: Encoding, z: Array, bits: float) -> Array:
    """The largest on the grid whose spikes have `bits` per element, else that with the most."""
    scale = jnp.sqrt(jnp.mean(jnp.square(z)))
    most, best = -1.0, scale
    for step in scale * _GRID:
        found = float(_bits(encoding, step, z))
        if found >= bits:
            return step
        if found > most:
            most, best = found, step
    return best
