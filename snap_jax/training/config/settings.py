"""What runs of all tasks have: how a model is divided, how its chips talk, how long it learns.

Law: what a run makes of its fields is a function of them alone.
"""

import dataclasses
import math
from typing import ClassVar, Literal

from snap_jax.training.tasks.layout import Layout, parse_layout

LINK, TICKS = "count:3", 4
_CODED = "count:31+rans"


@dataclasses.dataclass(frozen=True)
class Settings:
    """The fields that tasks share; each task refuses, when it is made, what `checks.check` refuses.

    Attributes:
      data: what to train on.
      link: what crosses from chip to chip, e.g. `dense`, `bf16`, `int4`, `count:3+packed`.
      mode: `dense` for floats on all links (`--link bf16` for half of them); `hybrid` for spikes where tensors leave a
        chip and floats inside; `spiking` for neurons inside too.
      ticks: how long the neurons of a spiking model run.
      layout: what the chips share: `pipeline`, `tensor`, `data`, or several with their sizes, `data:2+pipeline:2`.
      budget: wire bits an element to train for, all included, e.g. 0.75; 0 sets none. Link is then `count:31+rans`
        unless you name another, around it a basis, a mean and, for text, a prediction are learned (`innovation`). Needs
        a trained model to start from, `init_from`.
      rank: numbers sent for each vector under a budget; 0 takes 3/8 of its features for each bit of it.
      token_groups: parts in which the vectors of a text cross under a budget, sorted by their tokens, the quiet ones
      first,
        each with thresholds and tables of its own (`ordering`); a divisor of the window. 1 leaves them in order.
      distill: share of the loss, from 0 to 1, that is the cross-entropy with what the dense model says that the run
        starts from, `init_from`; the rest is that with the data.
      freeze: channels that fire at most this often on every boundary leave the wire when training ends, e.g. 0.001; 0
        takes those that never fire, without it all stay. Where the stream changes its shape, each boundary has its own.
      grad_link: the same as link for the way back; empty means dense for a dense link, else bf16.
      chips: how many there are; the layout says what they share.
      layers: blocks of the model; the dies of a pipeline must divide them.
      width: of the residual stream.
      batch: rows a step.
      microbatches: parts of a batch that follow each other through the pipeline; fewer where replicas leave fewer rows.
      steps: of the optimizer.
      learning_rate: its peak, after a linear warm-up over 5 % of the steps.
      schedule: from the peak on: `cosine` or `linear` down to 5 % of it, or `constant`.
      compute: what layers compute in, `f32` or `bf16`; parameters and optimizer are f32.
      accumulate: batches whose mean gradient makes one step.
      ema: decay of the running mean of the parameters that is evaluated and kept, e.g. 0.999; 0 takes the last ones.
      patience: stop when so many evaluations (there are ten a run) brought no better held-out loss; 0 never stops.
      save_every: steps from checkpoint to checkpoint; 0 means ten a run.
      init_from: a run whose weights to start from: any chips, layout, link and mode, the same model and sizes.
      seed: of parameters and batches.
    """

    task: ClassVar[str]
    unit: ClassVar[str]  # of the loss
    model: str

    data: str = ""
    link: str = LINK
    mode: Literal["dense", "hybrid", "spiking"] = "hybrid"
    ticks: int = TICKS
    layout: str = "pipeline"
    budget: float = 0.0
    rank: int = 0
    token_groups: int = 1
    distill: float = 0.0
    freeze: float | None = None
    grad_link: str = ""
    chips: int = 4
    layers: int = 4
    width: int = 128
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
    seed: int = 0

    @property
    def sent_link(self) -> str:
        """The link in use: floats in mode dense, entropy-coded counts where a budget is all that was asked for."""
        if self.link != LINK:
            return self.link
        return "dense" if self.mode == "dense" else _CODED if self.budget else self.link

    @property
    def backward_link(self) -> str:
        """The link of the cotangent."""
        return self.grad_link or ("dense" if self.sent_link == "dense" else "bf16")

    @property
    def divided(self) -> Layout:
        """The layout of the chips."""
        return parse_layout(self.layout, self.chips)

    @property
    def neuron_ticks(self) -> int:
        """Ticks of the model; 0 where no neuron spikes inside a chip."""
        return self.ticks if self.mode == "spiking" else 0

    @property
    def parts(self) -> int:
        """Microbatches in use: every replica has rows of each."""
        return math.gcd(self.microbatches, self.batch // self.divided.data)

    @property
    def keeps_shape(self) -> bool:
        """Whether the stream of the model has one shape."""
        return True

    @property
    def predicting(self) -> int:
        """Tokens that predict what is sent under a budget."""
        return 0

    @property
    def reads_tokens(self) -> bool:
        """Whether both sides of a boundary need to hold the tokens: to predict from them, or to sort by them."""
        return self.predicting > 0 or self.token_groups > 1

    @property
    def needs_origin(self) -> bool:
        """Whether the run it starts from takes part in every step: as a teacher, or by the book of its wire."""
        return bool(self.budget or self.distill)

    def sent_dims(self, features: int) -> int:
        """Numbers that cross for each vector of so many features."""
        return min(features, self.rank or math.ceil(0.375 * self.budget * features)) if self.budget else features

    @property
    def evaluate_every(self) -> int:
        """Steps from one look at the held-out data to the next: ten a run, at multiples of ten."""
        return max(10, self.steps // 10 // 10 * 10)
