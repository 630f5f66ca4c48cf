"""The settings that all tasks share: the data, the model, its division over devices, the links, the length of a run.

What a run makes of its settings is a function of them alone.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import ClassVar, Literal

from snap_jax.training.config.axis_links import FLOATS, along, by_axis
from snap_jax.training.tasks.layout import Layout, parse_layout

_TIME_STEPS = 4


@dataclasses.dataclass(frozen=True)
class Settings:
    """The fields that all tasks share. `validation.check` refuses combinations that cannot work.

    Attributes:
      data: The training data.
      link: What devices send in the forward pass, as ENCODING or ENCODING+WIRE. Encodings: fp32, bf16, int8, int4,
        topk:0.1, ternary, count:3, rate:8, latency:8, phase:4. Wires: packed, radix, bitmap, bitplanes, events, ladder,
        rans. An encoding or a wire of your own is named by its import path, such as my_package.codes.SIGN. The default
        is count:3; it is fp32 in mode dense, and count:31+rans under a budget. Or one per axis of the layout, such as
        `pipeline=count:3,data=ternary`: axes that are not named send fp32. `data` is how gradients are averaged.
      mode: Where the model spikes. `dense` sends floats on all links. `hybrid` sends spikes between devices and
        computes with floats inside. `spiking` also has spiking neurons inside.
      time_steps: How many time steps the neurons of a spiking model run. The default is 4.
      layout: What the devices divide among them: `pipeline` (the layers), `tensor` (each layer), `data` (the batch), or
        several with their sizes, such as `data:2+pipeline:2`.
      budget: Target bits per element on the wire, everything included, such as 0.75. The thresholds, a basis and a mean
        are trained to meet it, and for text a prediction. Without --init-from a dense run comes first.
      dense_steps: Number of steps of that dense run. The default is as many as --steps.
      anneal: Share of the run in which the target falls from twice the budget to the budget, such as 0.5. Without it
        the target is the budget from the start.
      penalty: Rate penalty with a fixed weight, instead of a budget: `bits:0.03` (nats for each bit per element),
        `spikes:0.05` (L1), `rate:0.3` (a target firing rate) or `threshold:0.03` (thresholds are pushed up).
      rank: How many numbers are sent for each feature vector, after a learned change of basis. The default under a
        budget is 3/8 of the features for each bit of it. Needs --init-from.
      transform_lr: Learning-rate multiplier of the basis and the mean, relative to the layers.
      distill: Weight of the distillation loss, from 0 to 1. The teacher is a dense run, given by --teacher.
      teacher: Directory of the dense run that teaches. The default is the run given by --init-from.
      prune_below: After training, remove the channels whose firing rate is at most this from the wire, such as 0.001.
        With 0, only channels that never fire are removed.
      grad_link: What devices send in the backward pass, written as for --link. The default is bf16, or fp32 if the link
        is fp32. Replicas average gradients with `data=...` of either flag; without it, with this flag in layout `data`,
        else with the spikes of --link, and as floats if these do not add up.
      local_steps: Number of steps that data replicas train alone before they exchange how far their parameters have
        moved (DiLoCo). That is sent as gradients of replicas are. Without it they average the gradient of every step.
      outer_lr: Learning rate of the exchange, a step of Nesterov SGD.
      outer_momentum: Its momentum.
      link_policy: Which messages are coded: `exact` (all that a flag names a codec for), `native` (floats where a
        payload would not be smaller), `auto` (floats where the cost model says that coding is not faster). With this
        flag a table says before training what was chosen for each message, and why. Without it, as `exact`.
      link_speed: The link that `auto` assumes: a system such as ethernet-400g, a JSON file with `latency_s` and
        `bytes_per_s`, or the TOML that `snap-jax cost calibrate` prints.
      devices: How many devices to use. On a CPU they are emulated.
      layers: Number of blocks of the model. Pipeline stages must divide it.
      width: Number of features of the residual stream.
      batch: Number of sequences or images in one batch.
      microbatches: Number of parts of a batch that follow each other through the pipeline. Fewer are used where data
        replicas leave fewer rows.
      pipeline_schedule: The order in which pipeline stages work: `gpipe`, or `1f1b`, in which each stage keeps the
        messages of at most as many microbatches as there are stages, and is computed again in the backward pass.
        Numbers are the same; bytes too, but for sums inside of a stage, which are sent again.
      remat: What the backward pass of gpipe computes again instead of keeping it: `none`, or `full`, all of a stage.
      steps: Number of optimizer steps.
      learning_rate: Peak learning rate, after a linear warm-up over 5 % of the steps.
      schedule: Learning rate after the warm-up: `cosine` or `linear` decay to 5 % of the peak, or `constant`.
      compute: Number format that layers compute in. Parameters and optimizer state are always f32.
      accumulate: Number of batches whose mean gradient makes one step.
      ema: Decay of an exponential moving average of the parameters, such as 0.999. The average is evaluated and saved.
        Without it the last parameters are.
      patience: Stop after this many evaluations without a lower held-out loss, and take the weights of the best one.
        --eval-every sets how often that is.
      log_every: Number of steps between lines of metrics.jsonl. Off a terminal such a line is shown too, but at most
        one in five seconds besides evaluations.
      eval_every: Number of steps between evaluations on some held-out data. The default is ten evaluations per run.
      save_every: Number of steps between checkpoints. The default is ten checkpoints per run.
      keep: Number of checkpoints to keep, the newest ones. That of the best evaluation is kept beside them.
      init_from: Directory of a run whose weights to start from. It must have the same model and sizes. Devices, layout,
        link and mode can differ.
      seed: Seed of parameters and batches.
    """

    task: ClassVar[str]
    unit: ClassVar[str]  # of the loss
    model: str

    data: str = ""
    link: str | None = None
    mode: Literal["dense", "hybrid", "spiking"] = "hybrid"
    time_steps: int | None = None
    layout: str = "pipeline"
    budget: float | None = None
    dense_steps: int | None = None
    anneal: float | None = None
    penalty: str | None = None
    rank: int | None = None
    transform_lr: float = 0.25
    distill: float | None = None
    teacher: str | None = None
    prune_below: float | None = None
    grad_link: str | None = None
    local_steps: int | None = None
    outer_lr: float = 0.7
    outer_momentum: float = 0.9
    link_policy: Literal["exact", "native", "auto"] | None = None
    link_speed: str | None = None
    devices: int = 4
    layers: int = 4
    width: int = 128
    batch: int = 8
    microbatches: int = 8
    pipeline_schedule: str = "gpipe"
    remat: Literal["none", "full"] = "none"
    steps: int = 1000
    learning_rate: float = 8e-3
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    compute: Literal["f32", "bf16"] = "f32"
    accumulate: int = 1
    ema: float | None = None
    patience: int | None = None
    log_every: int = 10
    eval_every: int | None = None
    save_every: int | None = None
    keep: int = 3
    init_from: str | None = None
    seed: int = 0

    @property
    def sent_link(self) -> str:
        """The link in use between stages, or else in sums of tensor regions: `link`, or the default for this mode."""
        return self.link_along("pipeline" if self.device_layout.pipeline > 1 else "tensor")

    @property
    def backward_link(self) -> str:
        """The link of its backward pass."""
        return self.grad_link_along("pipeline" if self.device_layout.pipeline > 1 else "tensor")

    def link_along(self, axis: str) -> str:
        """What crosses forward along `pipeline` or `tensor`."""
        if self.link is not None:
            return _lowered(along(self.link, "--link", axis))
        return FLOATS if self.mode == "dense" else "count:31+rans" if self.budget else "count:3"

    def grad_link_along(self, axis: str) -> str:
        """What crosses backward along `pipeline` or `tensor`."""
        if self.grad_link is not None:
            return along(self.grad_link, "--grad-link", axis)
        return FLOATS if self.link_along(axis) == FLOATS else "bf16"

    @property
    def average_link(self) -> str | None:
        """How gradients of replicas are averaged, if a flag says so; None for the spikes of `sent_link`."""
        said = self.average_links
        return next(iter(said.values()), FLOATS if self.link and "=" in self.link else None)

    @property
    def average_links(self) -> dict[str, str]:
        """What each flag says on that, by field. `grad_link` without axes does where replicas are all there is."""
        alone, said = self.device_layout.data == self.devices, {}
        for name in ("link", "grad_link"):
            spec = getattr(self, name)
            axes = None if spec is None else by_axis(spec, flag(name))
            if axes is not None and "data" in axes:
                said[name] = _lowered(axes["data"])
            elif spec is not None and axes is None and alone and name == "grad_link":
                said[name] = _lowered(spec)
        return said

    @property
    def device_layout(self) -> Layout:
        """The parsed layout."""
        return parse_layout(self.layout, self.devices)

    @property
    def neuron_steps(self) -> int:
        """Time steps of the neurons inside the model; 0 if it has none."""
        return (self.time_steps or _TIME_STEPS) if self.mode == "spiking" else 0

    @property
    def parts(self) -> int:
        """Microbatches in use: every data replica has rows of each."""
        return math.gcd(self.microbatches, self.batch // self.device_layout.data)

    @property
    def keeps_shape(self) -> bool:
        """Whether the residual stream has the same shape after every block."""
        return True

    @property
    def predicting_tokens(self) -> int:
        """Number of tokens that the transform predicts from."""
        return 0

    @property
    def groups_of_tokens(self) -> int:
        """Number of token groups that the transform sorts vectors into."""
        return 1

    @property
    def sent_streams(self) -> tuple[int, int] | None:
        """Residual streams, and mixtures of them that are sent; None without mixtures."""
        return None

    @property
    def has_transform(self) -> bool:
        """Whether a learned transform surrounds the codec of each boundary."""
        return self.budget is not None or self.rank is not None or self.sent_streams is not None

    @property
    def reads_tokens(self) -> bool:
        """Whether both ends of a boundary need the tokens, to predict from them or to sort by them."""
        return self.has_transform and (self.predicting_tokens > 0 or self.groups_of_tokens > 1)

    @property
    def needs_origin(self) -> bool:
        """Whether a resumed run needs the run it started from: as teacher, or for its basis and frequency tables."""
        return self.has_transform or self.distill is not None

    def sent_rank(self, features: int) -> int:
        """How many numbers are sent for each vector of so many features."""
        if self.sent_streams is not None:
            return features * self.sent_streams[1] // self.sent_streams[0]
        if self.rank is not None:
            return min(features, self.rank)
        return features if self.budget is None else min(features, math.ceil(0.375 * self.budget * features))

    @property
    def evaluate_every(self) -> int:
        """Steps between evaluations: `eval_every`, or ten per run, at multiples of ten."""
        return self.eval_every or max(10, self.steps // 10 // 10 * 10)


def from_scratch(config: Settings) -> bool:
    """Whether a dense run comes first: a budget needs a trained model to calibrate boundaries on."""
    return config.budget is not None and config.init_from is None


def _lowered(link: str) -> str:
    """Return a link spec in lower case, except for the import paths in it.

    >>> _lowered(" Count:3+my_package.wires.RUNS ")
    'count:3+my_package.wires.RUNS'
    """
    words = link.strip().split("+")
    return "+".join(word if "." in word.partition(":")[0] else word.lower() for word in words)


def flag(name: str) -> str:
    """The command-line flag of a field.

    >>> flag("seq_len")
    '--seq-len'
    """
    return f"--{name.replace('_', '-')}"


def typed(config: Settings, names: Sequence[str]) -> str:
    """The flags of some fields with their values, as they would be typed.

    >>> typed(Settings("rwkv", devices=3), ["devices", "layers"])
    '--devices 3 --layers 4'
    """
    return " ".join(f"{flag(name)} {getattr(config, name)}" for name in names)
