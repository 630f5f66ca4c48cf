"""What one run is: data, links, sizes, length; and the command line that repeats it."""

import dataclasses
import math
import shlex
from collections.abc import Sequence
from typing import Literal

from snap_jax.errors import UsageError


@dataclasses.dataclass(frozen=True)
class Config:
    """One run: what to train on, how chips talk, how long.

    Attributes:
      data: `stdlib`, `enwik8`, or a path to text.
      link: what crosses from chip to chip, e.g. `dense`, `bf16`, `int4`, `count:3+packed`.
      budget: wire bits an element to train for, all included, e.g. 0.75; 0 sets none. Link is then `count:15+rans`
        unless you name another, around it a basis, a mean and a prediction are learned (`innovation`). Needs a trained
        model to start from, `init_from`.
      dims: numbers sent for each vector under a budget; 0 takes 3/8 of the width for each bit of it.
      taps: tokens that predict what is sent under a budget; they are sent to every chip and count, 8 bits each.
      grad_link: the same for the way back; empty means dense for a dense link, else bf16.
      chips: dies of the pipeline; must divide the layers.
      layers: blocks of the model.
      width: of the residual stream.
      heads: of the time mix.
      window: bytes a sequence.
      batch: sequences a step.
      microbatches: parts of a batch that follow each other through the pipeline.
      steps: of the optimizer.
      learning_rate: its peak, after a linear warm-up over 5 % of the steps.
      schedule: from the peak on: `cosine` or `linear` down to 5 % of it, or `constant`.
      compute: what layers compute in, `f32` or `bf16`; parameters and optimizer are f32.
      accumulate: batches whose mean gradient makes one step.
      ema: decay of the running mean of the parameters that is evaluated and kept, e.g. 0.999; 0 takes the last ones.
      patience: stop when so many evaluations (there are ten a run) brought no better held-out loss; 0 never stops.
      save_every: steps from checkpoint to checkpoint; 0 means ten a run.
      init_from: a run whose weights to start from: any chips, any link, the same layers, width and heads.
      heldout_bytes: how much held-out text to evaluate, evenly spread; 0 takes all.
      seed: of parameters and batches.
    """

    data: str = "stdlib"
    link: str = "count:3"
    budget: float = 0.0
    dims: int = 0
    taps: int = 4
    grad_link: str = ""
    chips: int = 4
    layers: int = 4
    width: int = 128
    heads: int = 4
    window: int = 128
    batch: int = 8
    microbatches: int = 8
    steps: int = 1000
    learning_rate: float = 8e-3
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    compute: Literal["f32", "bf16"] = "f32"
    accumulate: int = 1
    ema: float = 0.0
    patience: int = 0
    save_every: int = 0
    init_from: str = ""
    heldout_bytes: int = 131072
    seed: int = 0

    def __post_init__(self):
        _at_least(self, 1, ("chips", "layers", "width", "heads", "window", "batch", "microbatches", "steps"))
        _at_least(self, 1, ("accumulate",))
        _at_least(self, 0, ("patience", "save_every"))
        if not 0 <= self.ema < 1:
            raise UsageError(f"ema={self.ema}: use a decay below 1, such as 0.999, or 0 for none")
        if self.batch % self.microbatches:
            raise UsageError(f"microbatches={self.microbatches} does not divide batch={self.batch}: use a divisor")
        if self.layers % self.chips:
            fits = ", ".join(str(n) for n in range(1, self.layers + 1) if self.layers % n == 0)
            raise UsageError(f"chips={self.chips} does not divide layers={self.layers}: use {fits}, or other layers")

        _check_budget(self)

    @property
    def sent_link(self) -> str:
        """The link in use: entropy-coded counts where a budget is all that was asked for."""
        return "count:15+rans" if self.budget and self.link == "count:3" else self.link

    @property
    def sent_dims(self) -> int:
        """Numbers that cross for each vector of the stream."""
        return min(self.width, self.dims or math.ceil(0.375 * self.budget * self.width)) if self.budget else self.width

    @property
    def share(self) -> float:
        """Numbers that cross for each element of the stream."""
        return self.sent_dims / self.width

    @property
    def context_bits(self) -> float:
        """Bits an element for the tokens that predict: 8 a vector."""
        return 8 / self.width if self.budget and self.taps else 0.0

    @property
    def evaluate_every(self) -> int:
        """Steps from one look at the held-out data to the next: ten a run, at multiples of ten."""
        return max(10, self.steps // 10 // 10 * 10)

    @property
    def backward_link(self) -> str:
        """The link of the cotangent."""
        return self.grad_link or ("dense" if self.link == "dense" else "bf16")


def _check_budget(config: Config) -> None:
    _at_least(config, 0, ("dims", "taps"))
    if config.budget < 0 or not math.isfinite(config.budget):
        raise UsageError(f"budget={config.budget}: use bits an element, such as 0.75, or 0 for none")
    if config.budget and config.budget <= config.context_bits:
        raise UsageError(
            f"budget={config.budget} does not pay for the tokens that predict, {config.context_bits:.3g} bits an "
            "element: use a larger one, or --taps 0"
        )
    if config.budget and not config.init_from:
        raise UsageError(
            f"budget={config.budget}: boundaries are calibrated on what crosses a trained model: train one with "
            "--link dense first, then give its --out as --init-from"
        )
    if config.budget and not any(wire in config.sent_link for wire in ("+rans", "+ladder", "+events")):
        raise UsageError(
            f"budget={config.budget} with link={config.link!r}: its size does not follow the spikes: add +rans"
        )


def _at_least(config: Config, least: int, names: Sequence[str]) -> None:
    for name in names:
        if getattr(config, name) < least:
            raise UsageError(f"{name}={getattr(config, name)}: use {least} or more")


def command(config: Config) -> str:
    """The command line that repeats a run; defaults are left out.

    >>> command(Config(link="int4", steps=10))
    'snap-jax train language --link int4 --steps 10'
    """
    flags = [
        f" --{field.name.replace('_', '-')} {shlex.quote(str(value))}"
        for field in dataclasses.fields(config)
        if (value := getattr(config, field.name)) != field.default
    ]
    return "snap-jax train language" + "".join(flags)
