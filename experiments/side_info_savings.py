"""Measure what could be saved if the receiver used more of what it knows, on the spikes of a one-bit text model.

    python -m experiments.side_info_savings           # train the model if it is missing, then print the table
    python -m experiments.side_info_savings --quick   # the same at a tiny size

The model has a learned transform with 4 context tokens and no token groups. Tables and linear predictions are fitted to
the first half of the held-out text and measured on the second half. All numbers are bits per element of the stream. A
prediction that explains the share R^2 of a channel's variance saves at most `-1/2 log2(1 - R^2)` bits per number.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments import markdown, one_device
from experiments.settings import TEXT, quick, spikes
from experiments.sweep import keep_programs, parser, train_needed
from snap_jax import training
from snap_jax.boundary.boundary import Boundary
from snap_jax.boundary.transforms import Prediction, TokenGroups
from snap_jax.parallel.mesh import emulate_devices

GROUPS = (4, 8, 16)
CLASSES = 4
Rows = np.ndarray  # [window, time, rank]


class Sent(NamedTuple):
    """What one boundary sends for all held-out text: the input of the codec, its spikes, and what arrives."""

    z: Rows
    spikes: Rows
    received: Rows


def entropy(symbols: np.ndarray) -> float:
    """Return bits per symbol.

    >>> entropy(np.array([0, 1, 1, 0]))
    1.0
    """
    shares = np.unique(symbols, return_counts=True)[1] / symbols.size
    return float(-(shares * np.log2(shares)).sum())


def by_channel(symbols: np.ndarray, width: int) -> float:
    """Return bits per element with a frequency table for each column of `symbols`, `[n, channels]`, times `n`."""
    return sum(entropy(channel) for channel in symbols.T) * len(symbols) / width


def with_token_groups(symbols: Rows, z: Rows, tokens: np.ndarray, groups: int, width: int) -> float:
    """Return bits per element with a frequency table for each channel of each token group."""
    order, half = TokenGroups(z.shape[-1], groups), len(z) // 2
    order.calibrate(jnp.asarray(z[:half]), jnp.asarray(tokens[:half]))
    rows = order.prepare(jnp.asarray(symbols[half:], jnp.float32), jnp.asarray(tokens[half:]))
    return by_channel(np.asarray(rows), width) / symbols[half:, :, 0].size


def with_sent_scale(symbols: Rows, z: Rows, width: int) -> float:
    """Return bits per element where each vector first names one of four classes of its mean size; tokens are unused."""
    half, size = len(z) // 2, np.abs(z).mean(-1)
    edges = np.quantile(size[:half], np.arange(1, CLASSES) / CLASSES)
    named, rows = np.searchsorted(edges, size[half:].reshape(-1)), symbols[half:].reshape(-1, symbols.shape[-1])
    bits = sum(by_channel(rows[named == c], width) for c in range(CLASSES) if (named == c).any())
    return bits / len(rows) + entropy(named) / width


def gaussian_bits(known: Rows, target: Rows, width: int) -> float:
    """Return what a linear prediction of `target` from `known`, both `[window, time, ...]`, saves per element."""
    half = len(known) // 2
    known = np.concatenate([known, np.ones((*known.shape[:2], 1))], -1)
    fitted, tested = (a.reshape(-1, a.shape[-1]) for a in (known[:half], known[half:]))
    fitted_to, tested_on = (a.reshape(-1, a.shape[-1]) for a in (target[:half], target[half:]))
    error = tested_on - tested @ np.linalg.lstsq(fitted, fitted_to, rcond=None)[0]
    explained = 1 - error.var(0) / tested_on.var(0)
    return float(-0.5 * np.log2(1 - np.clip(explained, 0, 0.999)).sum() / width)


def sent(trained: training.Trained) -> tuple[np.ndarray, list[Sent]]:
    """Return the tokens of the held-out text, and what each boundary sends."""
    model, boundaries = one_device.joined(trained)
    tokens = trained.job.heldout[:, :-1].astype(np.int32)

    @jax.jit
    def some(inputs: jax.Array) -> list[Sent]:
        each = one_device.run(model, boundaries, inputs)[1]
        return [_sent(boundary, z, inputs) for boundary, z in zip(boundaries, each, strict=False)]

    batches = [some(rows) for rows in np.array_split(tokens, max(1, len(tokens) // 32))]
    return tokens, [Sent(*map(np.concatenate, zip(*parts, strict=True))) for parts in zip(*batches, strict=True)]


def _sent(boundary: Boundary, z: jax.Array, tokens: jax.Array) -> Sent:
    codec = boundary.codec
    assert codec is not None
    predictions = [link.predict(tokens) for link in boundary.receiver.links if isinstance(link, Prediction)]
    return Sent(z, codec.spikes(z), codec.quantize(z) + sum(predictions))


def table(tokens: np.ndarray, boundaries: Sequence[Sent], width: int) -> str:
    """Return a row per boundary."""
    head = ["boundary", "as sent", *(f"{n} token groups" for n in GROUPS), "a scale sent with each vector"]
    rows = [(*head, "saved by the channel's last value", "saved by the last two vectors")]
    for place, (z, symbols, received) in enumerate(boundaries, 1):
        half = len(z) // 2
        bits = [by_channel(symbols[half:].reshape(-1, z.shape[-1]), width) / symbols[half:, :, 0].size]
        bits += [with_token_groups(symbols, z, tokens, n, width) for n in GROUPS]
        now, last, before = z[:, 2:], received[:, 1:-1], received[:, :-2]
        each = sum(gaussian_bits(last[..., [c]], now[..., [c]], width) for c in range(z.shape[-1]))
        bits += [with_sent_scale(symbols, z, width), each]
        bits.append(gaussian_bits(np.concatenate([last, before], -1), now, width))
        rows.append((str(place), *(f"{b:.3f}" for b in bits)))
    return markdown.table(rows)


def main(arguments: Sequence[str] | None = None) -> None:
    asked = parser(__doc__).parse_args(arguments)
    base = quick(TEXT) if asked.quick else TEXT
    config = spikes(base, 1.0, token_groups=1)
    emulate_devices(config.devices)
    keep_programs(asked.file.parent / "programs")
    train_needed(config)
    print(table(*sent(training.measure(config)), config.width))


if __name__ == "__main__":
    main()
