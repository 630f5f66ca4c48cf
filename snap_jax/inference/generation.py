"""Text that a trained run writes, byte by byte, over its devices.

Invariant: what is written depends on the prompt and the seed, not on the other prompts of a batch or on the devices,
while the links send codes whose scales are learned.
"""

import dataclasses
import functools
import statistics
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

from snap_jax.errors import UsageError
from snap_jax.inference.decoding import Decoder, DecodeState, decoder_of
from snap_jax.inference.trained_run import TrainedRun
from snap_jax.parallel.mesh import STAGE
from snap_jax.parallel.processes import on_host
from snap_jax.traffic.hlo import compiled_traffic
from snap_jax.traffic.program_text import names_in_cache_key
from snap_jax.training.config import LanguageConfig

_FLOAT_BYTES = 4


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How the next token is chosen.

    Attributes:
      temperature: logits are divided by it; 0 takes the most probable token.
      top_k: only so many of the most probable tokens; None for all.
      seed: of the choices.

    Raises:
      UsageError: for a negative temperature, or a `top_k` below 1.
    """

    temperature: float = 1.0
    top_k: int | None = None
    seed: int = 0

    def __post_init__(self):
        if not self.temperature >= 0:
            raise UsageError(f"--temperature {self.temperature}: use 0 or more")
        if self.top_k is not None and self.top_k < 1:
            raise UsageError(f"--top-k {self.top_k}: use 1 or more, or leave it out")

    def choose(self, logits: Float[Array, "batch vocabulary"], position: Int[Array, ""]) -> Int[Array, " batch"]:
        """Return the next token of each text.

        >>> Sampling(temperature=0.0).choose(jnp.array([[0.0, 2.0, 1.0]]), jnp.int32(0)).tolist()
        [1]
        """
        if self.temperature == 0:
            return logits.argmax(-1).astype(jnp.int32)
        if self.top_k is not None:
            least = jax.lax.top_k(logits, min(self.top_k, logits.shape[-1]))[0][:, -1:]
            logits = jnp.where(logits < least, -jnp.inf, logits)
        key = jax.random.fold_in(jax.random.key(self.seed), position)
        each = jax.vmap(lambda row: jax.random.categorical(key, row / self.temperature))
        return each(logits).astype(jnp.int32)


class Written(NamedTuple):
    """What was written, and how fast.

    Attributes:
      texts: bytes after each prompt.
      first_token_seconds: from the start to the first byte, without compilation.
      step_seconds: of each later step, which writes one byte of each text.
      bytes_per_token: payloads between stages per byte of text, the largest that the compiled program can send.
      dense_bytes_per_token: the same as float32.
    """

    texts: list[bytes]
    first_token_seconds: float
    step_seconds: list[float]
    bytes_per_token: float
    dense_bytes_per_token: float

    @property
    def tokens_per_second(self) -> float | None:
        """Bytes of all texts per second, after the first of each; None where there is one."""
        return len(self.texts) / statistics.mean(self.step_seconds) if self.step_seconds else None


class DecodePrograms(NamedTuple):
    """What `generate` runs, compiled for prompts of these lengths.

    Attributes:
      prefill: reads the part that all prompts have.
      decode: reads one token of each text, and chooses the next.
      start: the state before the first token.
    """

    prefill: jax.stages.Compiled
    decode: jax.stages.Compiled
    start: DecodeState


@names_in_cache_key()
def compile_for(
    run: TrainedRun, prompts: Sequence[bytes], *, tokens: int, sampling: Sampling | None = None
) -> DecodePrograms:
    """Compile what `generate` runs; the arguments are as there.

    Raises:
      UsageError: as `generate`.
    """
    check(run, prompts, tokens)
    sampling, decoder = sampling or Sampling(), decoder_of(run.job.task, run.params)
    given, shortest = _rows(prompts), min(map(len, prompts))
    state = decoder.start(run.params, len(prompts), given.shape[1] + tokens)
    step = jax.jit(functools.partial(_next_token, decoder, sampling))
    prefill = step.lower(run.params, state, given[:, :shortest]).compile()
    return DecodePrograms(prefill, step.lower(run.params, _like_after(prefill, state), given[:, :1]).compile(), state)


@names_in_cache_key()
def generate(
    run: TrainedRun,
    prompts: Sequence[bytes],
    *,
    tokens: int = 128,
    sampling: Sampling | None = None,
    on_token: Callable[[list[int]], None] | None = None,
    programs: DecodePrograms | None = None,
) -> Written:
    """Write text after each prompt.

    Args:
      run: of a language model, from `load`.
      prompts: one or more; the shorter ones of several get their first bytes while the longer ones are read.
      tokens: how many bytes to write after the longest prompt.
      sampling: how to choose them.
      on_token: receives the new byte of each text as it comes.
      programs: of `compile_for` with the same arguments, to write several times; None compiles them.

    Raises:
      UsageError: for a run of images, an empty prompt, lengths that the model was not trained for, and boundaries that
        cannot decode token by token.
    """
    prefill, decode, state = programs or compile_for(run, prompts, tokens=tokens, sampling=sampling)
    given, shortest = _rows(prompts), min(map(len, prompts))
    end = given.shape[1] + tokens
    written, seconds, program, new = given[:, :shortest], [], prefill, given[:, :shortest]
    for place in range(shortest, end):
        began = time.perf_counter()
        token, state = program(run.params, state, new)
        token = np.asarray(on_host(token))
        seconds.append(time.perf_counter() - began)
        known = np.array([place < len(prompt) for prompt in prompts])
        new = np.where(known, given[:, min(place, given.shape[1] - 1)], token)[:, None]
        written, program = np.concatenate([written, new], 1), decode
        if on_token is not None and not known.any():
            on_token(new[:, 0].tolist())
    texts = [bytes(row[len(prompt) :].tolist()) for row, prompt in zip(written, prompts, strict=True)]
    return Written(texts, seconds[0], seconds[1:], *_bytes_per_token(run, decode, len(prompts)))


def _rows(prompts: Sequence[bytes]) -> Int[np.ndarray, "batch longest"]:
    """The prompts, filled up with zeros."""
    rows = np.zeros((len(prompts), max(map(len, prompts))), np.int32)
    for row, prompt in zip(rows, prompts, strict=True):
        row[: len(prompt)] = list(prompt)
    return rows


def _bytes_per_token(run: TrainedRun, decode: jax.stages.Compiled, texts: int) -> tuple[float, float]:
    mesh = run.job.task.mesh
    sent = compiled_traffic(decode, mesh).where(lambda t: "boundary" in t.path and t.op == "ppermute").sent_bytes
    return sent / texts, float(_FLOAT_BYTES * (mesh.shape[STAGE] - 1) * run.config.width)


def _next_token(
    decoder: Decoder, sampling: Sampling, params: PyTree, state: DecodeState, tokens: Array
) -> tuple[Array, DecodeState]:
    position = state.position + tokens.shape[1]
    return decoder.step(params, state, tokens, lambda logits: sampling.choose(logits[:, -1], position))


def _like_after(prefill: jax.stages.Compiled, state: DecodeState) -> DecodeState:
    """The state that comes out of the prefill, as shapes on devices."""
    _, shardings = prefill.output_shardings
    return jax.tree.map(lambda a, s: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=s), state, shardings)


def check(run: TrainedRun, prompts: Sequence[bytes], tokens: int) -> None:
    """Check what `generate` is asked for; see there."""
    config = run.config
    if not isinstance(config, LanguageConfig):
        raise UsageError(f"{run.path} is a run of `train vision`: generate writes text: give a run of `train language`")
    if not prompts or not all(prompts):
        raise UsageError("--prompt: it is empty: give some text, which the model goes on from")
    if tokens < 1:
        raise UsageError(f"--tokens {tokens}: use 1 or more")
    longest = max(map(len, prompts))
    if config.model == "transformer" and longest + tokens > config.seq_len:
        raise UsageError(
            f"--prompt of {longest} bytes and --tokens {tokens}: the transformer was trained on {config.seq_len} "
            f"positions: use at most {config.seq_len} together"
        )
