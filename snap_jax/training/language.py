"""The language task: next-byte prediction on a text, by an RWKV or a transformer divided over devices.

Batches and held-out windows are those of `data.text_loader`; what is evaluated does not depend on training.
"""

import dataclasses
import hashlib
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Integer, PyTree

from snap_jax.boundary.side_information import mean_token_bits, token_wire
from snap_jax.boundary.telemetry import Telemetry
from snap_jax.data import text_loader
from snap_jax.errors import UsageError
from snap_jax.models import rwkv, transformer
from snap_jax.models.base import EachBlock, Network, whole
from snap_jax.parallel.processes import is_first, on_first
from snap_jax.training import fingerprints
from snap_jax.training.config import LanguageConfig, Settings
from snap_jax.training.evaluation import score, sends_spikes, spikes_of
from snap_jax.training.link_setup import links_of
from snap_jax.training.parallel_job import MakeLinks, ParallelJob, build
from snap_jax.training.tasks.losses import Batch

_EVALUATED_AT_ONCE = (4, 8)  # microbatches, windows each
AT_ONCE = math.prod(_EVALUATED_AT_ONCE)


@dataclasses.dataclass(frozen=True, eq=False)
class LanguageJob(ParallelJob):
    """A divided model, a text, and the windows of held-out text to evaluate."""

    config: LanguageConfig
    corpus: text_loader.Corpus
    heldout: np.ndarray

    @property
    def data_notes(self) -> tuple[str, ...]:
        """Which files of a directory are no text, or cannot be read."""
        return tuple(f"--data {self.config.data}: {note}" for note in self.corpus.notes if note.startswith("left out"))

    def fingerprint(self) -> str:
        """Return the SHA-256 of the text, for training and held out; of more than 1 GiB, of its size and 1024 parts."""
        digest = hashlib.sha256()
        fingerprints.update(digest, self.corpus.train)
        digest.update(b"|")
        fingerprints.update(digest, self.corpus.heldout)
        return digest.hexdigest()

    def batch(self, index: int) -> Batch:
        """Return the tokens of one batch, by microbatch; a pure function of the seed and the index."""
        config, text = self.config, self.corpus.train

        def read(rows: np.ndarray) -> Batch:
            drawn = text_loader.batch(
                text, step=index, seed=config.seed, batch=config.batch, seq_len=config.seq_len, rows=rows
            )
            return next_token(drawn)

        return self.task.read_batch(read, config.batch, config.parts)

    def batch_name(self, index: int) -> str:
        """Return the seed, the index and the bytes of the training text that the batch was cut from."""
        config = self.config
        begin = text_loader.starts(
            self.corpus.train, step=index, seed=config.seed, batch=config.batch, seq_len=config.seq_len
        ).tolist()
        return f"seed {config.seed}, batch {index}: {config.seq_len + 1} bytes of the training text from {begin}"

    def evaluate_some(self, params: PyTree) -> dict:
        """Return bits per byte on windows spread over the held-out text, and the mean threshold of each boundary."""
        windows = self.heldout[:: max(1, len(self.heldout) // AT_ONCE)][:AT_ONCE]
        return {"heldout_bits": evaluate(self, params, windows)[0]} | self.thresholds(params)

    def predict_all(self, params: PyTree) -> None:
        """Run the model on all held-out windows."""
        evaluate(self, params, self.heldout)

    def evaluate_all(self, params: PyTree, out: Path | None) -> tuple[dict, Telemetry]:
        """Return bits per byte on all held-out windows; write the spikes of one of them."""
        bits, seen = evaluate(self, params, self.heldout)
        if out is not None and sends_spikes(self.task, seen):
            _write_raster(self, params, out)
        sections = {
            "quality": {"metric": "bits_per_byte", "value": bits, "n": self.heldout[:, 1:].size},
            "baselines": on_first(lambda: _baselines(self.corpus.heldout)),
        }
        return sections, seen


def prepare(config: LanguageConfig, make_links: MakeLinks = links_of) -> LanguageJob:
    """Load the text and divide the model; see `starting.prepare`.

    Raises:
      UsageError: for data, links, devices or sizes that cannot work; the message names the fix.
    """
    corpus = text_loader.load(config.data)
    for name, part in (("training", corpus.train), ("held-out", corpus.heldout)):
        if len(part) <= config.seq_len:
            raise UsageError(
                f"--seq-len {config.seq_len} needs a {name} text of at least {config.seq_len + 1} bytes, "
                f"that of --data {config.data} has {len(part)}: use a longer text, or --seq-len {max(1, len(part) - 1)}"
            )
    heldout = spread(text_loader.windows(corpus.heldout, config.seq_len), config.heldout_bytes)

    def sample() -> Array:
        rows = text_loader.batch(corpus.train, step=2**31, seed=config.seed, batch=16, seq_len=config.seq_len)
        return jnp.asarray(next_token(rows).inputs)

    inputs = jax.ShapeDtypeStruct((config.seq_len,), jnp.int32)
    built = build(config, network, inputs, sample, make_links, lambda: token_bits(config, corpus))
    return LanguageJob(config, *built, corpus, heldout)


def _baselines(text: text_loader.Text) -> dict[str, float]:
    return {
        "order0_bits_per_byte": text_loader.order0_bits(text),
        "gzip_bits_per_byte": text_loader.gzip_bits(text),
    }


def token_bits(config: LanguageConfig, corpus: text_loader.Corpus) -> float:
    """Return the bits per token of a microbatch of training text, entropy-coded with the byte frequencies of it all.

    This is what it would take to send the tokens along with the spikes. Here every device reads the text itself.
    """
    rows, sample = config.batch // config.device_layout.data // config.parts, 8
    drawn = text_loader.batch(corpus.train, step=2**31, seed=config.seed, batch=sample * rows, seq_len=config.seq_len)
    payloads = next_token(drawn).inputs.reshape(sample, -1)
    return mean_token_bits(token_wire(corpus.train), [jnp.asarray(tokens) for tokens in payloads])


def network(config: Settings, each_block: EachBlock = whole) -> Network:
    """Return the model on one device; of each block what `each_block` returns."""
    assert isinstance(config, LanguageConfig)
    rngs, size = nnx.Rngs(config.seed), (config.layers, config.width, config.heads)
    more = {"time_steps": config.neuron_steps, "streams": config.streams}
    if config.model == "transformer":
        return transformer.Transformer(transformer.TransformerConfig(*size, **more), rngs=rngs, each_block=each_block)
    shape = rwkv.RWKVConfig(*size, chunk=math.gcd(config.seq_len, 32), **more)
    return rwkv.RWKV(shape, rngs=rngs, each_block=each_block)


def next_token(rows: Integer[np.ndarray | Array, "*batch time_plus_1"]) -> Batch:
    """Return windows as a batch: the label of each token is the next one.

    >>> next_token(np.array([[7, 8, 9]], np.uint8)).labels.tolist()
    [[8, 9]]
    """
    tokens = rows.astype(np.int32)
    return Batch(tokens[..., :-1], tokens[..., 1:])


def spread(windows: np.ndarray, most_bytes: int | None) -> np.ndarray:
    """Return windows of at most `most_bytes` in all, evenly spread and in order; all of them for None.

    >>> spread(np.arange(20).reshape(10, 2), 4)[:, 0].tolist()
    [0, 6, 12, 18]
    """
    count = min(len(windows), max(1, most_bytes // (windows.shape[1] - 1))) if most_bytes else len(windows)
    return windows[np.linspace(0, len(windows) - 1, count).round().astype(int)]


def evaluate(job: LanguageJob, params: PyTree, windows: np.ndarray) -> tuple[float, Telemetry]:
    """Return bits per byte over the windows, and what left each stage."""

    def read(places: np.ndarray, rows: np.ndarray) -> Batch:
        return next_token(windows[places[rows]])

    found = score(job.task, params, len(windows), read, _EVALUATED_AT_ONCE)
    return found.nats / math.log(2) / windows[:, 1:].size, found.seen


def _write_raster(job: LanguageJob, params: PyTree, out: Path) -> None:
    row = job.heldout[len(job.heldout) // 2]
    spikes = np.concatenate(spikes_of(job.task, params, next_token(row[None]), job.config.device_layout.data))
    if is_first():
        np.savez_compressed(out / "spikes.npz", text=row[:-1], spikes=spikes)
