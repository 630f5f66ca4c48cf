"""Question: what could be saved that is not, if the receiver used more of what it knows.

    python -m experiments.probes           # trains the one-bit text model of `pareto`, then prints the table

Ideas are first looked at on spikes that are there: entropies and errors of prediction at a trained model's boundaries,
fitted to half of the held-out text and taken on the other half. Gaussian bits: `-1/2 log2(1 - R^2)` of a prediction
that explains the share `R^2` of a channel's variance, an upper bound where a threshold is coarse. All are bits an
element of the stream; what of it is worth building is then built and trained (`ablations`).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments import tasks
from experiments.frontier import trained
from experiments.pareto import FILE, spikes
from experiments.points import task_of
from experiments.sweeps import keep_programs
from snap_jax.boundary.transforms.token_groups import TokenGroups, residual_norms

SEGMENTS = (4, 8, 16)
CLASSES = 4
Rows = np.ndarray  # [window, time, dims]


class Crossed(NamedTuple):
    """What crossed one boundary in all held-out text: what was coded, its spikes, what the receiver made of them."""

    z: Rows
    spikes: Rows
    received: Rows


def entropy(symbols: np.ndarray) -> float:
    """Bits a symbol.

    >>> entropy(np.array([0, 1, 1, 0]))
    1.0
    """
    shares = np.unique(symbols, return_counts=True)[1] / symbols.size
    return float(-(shares * np.log2(shares)).sum())


def by_channel(symbols: np.ndarray, width: int) -> float:
    """Bits an element of the stream, a table for each column: symbols `[n, channels]`."""
    return sum(entropy(channel) for channel in symbols.T) * len(symbols) / width


def told_apart(symbols: Rows, z: Rows, tokens: np.ndarray, token_groups: int, width: int) -> float:
    """The same with a table for each channel of each segment of tokens that are alike (`ordering`)."""
    order, half = TokenGroups(z.shape[-1], token_groups), len(z) // 2
    order.residual_norm[...] = residual_norms(jnp.asarray(z[:half]), jnp.asarray(tokens[:half]), 256)
    rows = np.asarray(order.prepare(jnp.asarray(symbols[half:], jnp.float32), jnp.asarray(tokens[half:])))
    return by_channel(rows, width) / symbols[half:, :, 0].size


def with_sent_scale(symbols: Rows, z: Rows, width: int) -> float:
    """The same without tokens, where each vector says first which of four classes of loudness it is of."""
    half, loud = len(z) // 2, np.abs(z).mean(-1)
    edges = np.quantile(loud[:half], np.arange(1, CLASSES) / CLASSES)
    named, rows = np.searchsorted(edges, loud[half:].reshape(-1)), symbols[half:].reshape(-1, symbols.shape[-1])
    told = sum(by_channel(rows[named == c], width) for c in range(CLASSES) if (named == c).any())
    return told / len(rows) + entropy(named) / width


def gaussian_bits(known: Rows, wanted: Rows, width: int) -> float:
    """What a linear prediction of `wanted` from `known`, both `[window, time, ...]`, saves an element of the stream."""
    half = len(known) // 2
    known = np.concatenate([known, np.ones((*known.shape[:2], 1))], -1)
    seen, to_see = (a.reshape(-1, a.shape[-1]) for a in (known[:half], known[half:]))
    told, to_tell = (a.reshape(-1, a.shape[-1]) for a in (wanted[:half], wanted[half:]))
    error = to_tell - to_see @ np.linalg.lstsq(seen, told, rcond=None)[0]
    explained = 1 - error.var(0) / to_tell.var(0)
    return float(-0.5 * np.log2(1 - np.clip(explained, 0, 0.999)).sum() / width)


def crossed(model: tasks.Cut, task: tasks.Task) -> tuple[np.ndarray, list[Crossed]]:
    """The tokens, and what crossed each boundary."""

    @jax.jit
    def one(model: tasks.Cut, inputs: jax.Array, context: jax.Array) -> list[Crossed]:
        _, sent, _ = model(inputs, context)
        pairs = [(b, b.codec, z) for b, z in zip(model.boundaries, sent, strict=True) if b.codec is not None]
        return [Crossed(z, c.spikes(z), c.quantize(z) + b.receiver.links[1].predict(context)) for b, c, z in pairs]

    batches = [one(model, inputs, context) for inputs, _, context in task.heldout]
    tokens = np.concatenate([np.asarray(context) for _, _, context in task.heldout])
    return tokens, [Crossed(*(np.concatenate(a) for a in zip(*b, strict=True))) for b in zip(*batches, strict=True)]


def table(tokens: np.ndarray, boundaries: list[Crossed], width: int) -> str:
    """A row a boundary."""
    head = ["boundary", "bits as sent", *(f"tokens in {n} segments" for n in SEGMENTS)]
    head += ["a scale a vector, sent"]
    head += ["saved by the channel's last value", "saved by the two last vectors"]
    rows = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for place, (z, symbols, received) in enumerate(boundaries):
        half = len(z) // 2
        bits = [by_channel(symbols[half:].reshape(-1, z.shape[-1]), width) / symbols[half:, :, 0].size]
        bits += [told_apart(symbols, z, tokens, n, width) for n in SEGMENTS]
        bits += [with_sent_scale(symbols, z, width)]
        now, last, before = z[:, 2:], received[:, 1:-1], received[:, :-2]
        each = sum(gaussian_bits(last[..., [c]], now[..., [c]], width) for c in range(z.shape[-1]))
        bits += [each, gaussian_bits(np.concatenate([last, before], -1), now, width)]
        rows.append(f"| {place + 1} | {' | '.join(f'{b:.3f}' for b in bits)} |")
    return "\n".join(rows)


if __name__ == "__main__":
    keep_programs(FILE.parent / ".compiled")
    point = spikes("text", 1.0, token_groups=1)
    task = task_of(point)
    print(table(*crossed(trained(point, task, print), task), task.width))
