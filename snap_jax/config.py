"""What one run is: task, data, model, mode, layout, links, sizes, length; and the command line that repeats it.

Law: a run is the fields of its `Config` and nothing else; those that cannot be together are refused when it is made.
"""

import dataclasses
import math
import shlex
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from snap_jax.encodings import Float, Integer, TopK
from snap_jax.errors import UsageError
from snap_jax.specs import parse_link
from snap_jax.tasks.layouts import Layout, parse_layout

_LINK, _TICKS, _CODED = "count:3", 4, "count:31+rans"


@dataclasses.dataclass(frozen=True)
class Settings:
    """What runs of all tasks have: how a model is divided, how its chips talk, how long it learns.

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
      dims: numbers sent for each vector under a budget; 0 takes 3/8 of the width for each bit of it.
      freeze: channels that fire at most this often on every boundary leave the wire when training ends, e.g. 0.001; 0
        takes those that never fire, without it all stay.
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
    link: str = _LINK
    mode: Literal["dense", "hybrid", "spiking"] = "hybrid"
    ticks: int = _TICKS
    layout: str = "pipeline"
    budget: float = 0.0
    dims: int = 0
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

    def __post_init__(self):
        _at_least(self, 1, ("chips", "layers", "width", "batch", "microbatches", "steps", "accumulate", "ticks"))
        _at_least(self, 0, ("patience", "save_every", "dims"))
        if not 0 <= self.ema < 1:
            raise UsageError(f"ema={self.ema}: use a decay below 1, such as 0.999, or 0 for none")
        if self.batch % self.microbatches:
            raise UsageError(f"microbatches={self.microbatches} does not divide batch={self.batch}: use a divisor")
        _check_layout(self)
        _check_mode(self)
        _check_budget(self)
        _check_freeze(self)

    @property
    def sent_link(self) -> str:
        """The link in use: floats in mode dense, entropy-coded counts where a budget is all that was asked for."""
        if self.link != _LINK:
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
        return 8 / self.width if self.budget and self.predicting else 0.0

    @property
    def evaluate_every(self) -> int:
        """Steps from one look at the held-out data to the next: ten a run, at multiples of ten."""
        return max(10, self.steps // 10 // 10 * 10)


@dataclasses.dataclass(frozen=True)
class Config(Settings):
    """Next-byte prediction on a text: a run of `train language`.

    Attributes:
      data: `stdlib`, `enwik8`, or a path to text.
      model: `rwkv`, or `transformer`.
      taps: tokens that predict what is sent under a budget; they are sent to every chip and count, 8 bits each.
      heads: of the time mix, or of attention.
      window: bytes a sequence.
      heldout_bytes: how much held-out text to evaluate, evenly spread; 0 takes all.
    """

    task: ClassVar[str] = "language"
    unit: ClassVar[str] = "byte"

    data: str = "stdlib"
    model: Literal["rwkv", "transformer"] = "rwkv"
    taps: int = 4
    heads: int = 4
    window: int = 128
    heldout_bytes: int = 131072

    def __post_init__(self):
        _at_least(self, 1, ("heads", "window"))
        _at_least(self, 0, ("taps", "heldout_bytes"))
        super().__post_init__()
        if self.heads % self.divided.tensor:
            raise UsageError(
                f"layout={self.layout!r}: {self.divided.tensor} chips do not divide heads={self.heads}: "
                f"use --heads {self.divided.tensor}, or fewer chips along tensor"
            )

    @property
    def predicting(self) -> int:
        """Tokens that predict what is sent under a budget."""
        return self.taps


@dataclasses.dataclass(frozen=True)
class VisionConfig(Settings):
    """Which class a picture is of: a run of `train vision`.

    Attributes:
      data: `digits`, `cifar10`, `cifar100`, `fashion_mnist`, `imagenet2012`, or a directory of IDX files.
      model: `resnet`, an MS-ResNet whose stream keeps one shape; or `resnet18`, with down-sampling, and
        `efficientnet-b0` to `-b4`, whose layers, and the width of an EfficientNet, are theirs. These go without a
        budget, and not into pipeline and tensor at once.
      heldout_images: how many held-out pictures to evaluate, evenly spread; 0 takes all.
    """

    task: ClassVar[str] = "vision"
    unit: ClassVar[str] = "image"

    data: str = "digits"
    model: Literal[
        "resnet",
        "resnet18",
        "efficientnet-b0",
        "efficientnet-b1",
        "efficientnet-b2",
        "efficientnet-b3",
        "efficientnet-b4",
    ] = "resnet"
    width: int = 32
    batch: int = 64
    steps: int = 600
    learning_rate: float = 5e-3
    heldout_images: int = 0

    def __post_init__(self):
        _at_least(self, 0, ("heldout_images",))
        super().__post_init__()
        product = self.divided.pipeline > 1 and self.divided.tensor > 1
        if not self.keeps_shape and (self.budget or self.freeze is not None or product):
            what = "layout" if product else "budget" if self.budget else "freeze"
            raise UsageError(
                f"model={self.model!r} changes the shape of its stream, and {what}={getattr(self, what)!r} needs one "
                "shape: use a layout of pipeline or tensor without --budget and --freeze, or --model resnet"
            )

    @property
    def keeps_shape(self) -> bool:
        """Whether the stream of the model has one shape."""
        return self.model == "resnet"


def read_settings(fields: Mapping[str, Any]) -> Settings:
    """The settings that a run wrote down; fields it did not know yet have their defaults, others are left out.

    >>> read_settings({"data": "enwik8", "of": "old"}).data
    'enwik8'
    """
    kind = VisionConfig if fields.get("task") == VisionConfig.task else Config
    known = {field.name for field in dataclasses.fields(kind)}
    return kind(**{name: value for name, value in fields.items() if name in known})


def written_settings(config: Settings) -> dict[str, Any]:
    """What `read_settings` reads: the task, and all fields."""
    return {"task": config.task} | dataclasses.asdict(config)


def command(config: Settings) -> str:
    """The command line that repeats a run; defaults are left out.

    >>> command(Config(link="int4", steps=10))
    'snap-jax train language --link int4 --steps 10'
    >>> command(VisionConfig(mode="spiking", layout="data"))
    'snap-jax train vision --mode spiking --layout data'
    """
    flags = [
        f" --{field.name.replace('_', '-')} {shlex.quote(str(value))}"
        for field in dataclasses.fields(config)
        if (value := getattr(config, field.name)) != field.default
    ]
    return f"snap-jax train {config.task}" + "".join(flags)


def _check_layout(config: Settings) -> None:
    layout = config.divided
    if config.keeps_shape and config.layers % layout.pipeline:
        fits = ", ".join(str(n) for n in range(1, config.layers + 1) if config.layers % n == 0)
        raise UsageError(f"chips={layout.pipeline} does not divide layers={config.layers}: use {fits}, or other layers")
    if config.batch % layout.data:
        raise UsageError(
            f"layout={config.layout!r}: {layout.data} replicas do not divide batch={config.batch}: "
            f"use --batch {-(-config.batch // layout.data) * layout.data}"
        )


def _check_mode(config: Settings) -> None:
    mode, floats = f"mode={config.mode}", ("dense", "bf16")
    link, grad_link = config.link.strip().lower(), config.grad_link.strip().lower()
    if config.mode == "dense" and link not in (_LINK, *floats):
        raise UsageError(f"{mode} sends floats, and link={config.link!r} does not: use --link bf16, or --mode hybrid")
    if config.mode == "dense" and grad_link not in ("", *floats):
        raise UsageError(f"{mode} sends floats, and grad_link={config.grad_link!r} does not: leave it out")
    if config.mode == "spiking" and not _spikes(config.link):
        raise UsageError(f"{mode} sends spikes, and link={config.link!r} sends none: use count:3, or --mode hybrid")
    if config.mode != "spiking" and config.ticks != _TICKS:
        raise UsageError(f"ticks={config.ticks} with {mode}: only a spiking model has ticks: add --mode spiking")


def _check_freeze(config: Settings) -> None:
    if config.freeze is None:
        return
    freeze = f"freeze={config.freeze}"
    if not 0 <= config.freeze < 1:
        raise UsageError(f"{freeze}: use a firing rate from 0 up to 1, such as 0.001")
    if config.mode == "dense" or not _learns_thresholds(config.sent_link):
        raise UsageError(f"{freeze} with link={config.sent_link!r}: there are no spikes to be silent: use count:3")
    if config.divided.pipeline != config.chips or config.chips == 1:
        raise UsageError(
            f"{freeze} with layout={config.layout!r}, chips={config.chips}: it is for a pipeline of 2 or more"
        )


def _learns_thresholds(link: str) -> bool:
    codec = parse_link(link)
    return codec is not None and codec.encoding.threshold is not None


def _spikes(link: str) -> bool:
    codec = parse_link(link)
    return codec is not None and not isinstance(codec.encoding, Float | Integer | TopK)


def _check_budget(config: Settings) -> None:
    budget = f"budget={config.budget}"
    if config.budget < 0 or not math.isfinite(config.budget):
        raise UsageError(f"{budget}: use bits an element, such as 0.75, or 0 for none")
    if not config.budget:
        return
    if config.mode == "dense":
        raise UsageError(f"{budget} with mode=dense: floats cannot be fewer: use --mode hybrid")
    if config.divided.pipeline != config.chips:
        raise UsageError(f"{budget} with layout={config.layout!r}: it is met from die to die: use --layout pipeline")
    if config.budget <= config.context_bits:
        raise UsageError(
            f"{budget} does not pay for the tokens that predict, {config.context_bits:.3g} bits an "
            "element: use a larger one, or --taps 0"
        )
    if not config.init_from:
        raise UsageError(
            f"{budget}: boundaries are calibrated on what crosses a trained model: train one with "
            "--link dense first, then give its --out as --init-from"
        )
    if not any(wire in config.sent_link for wire in ("+rans", "+ladder", "+events")):
        raise UsageError(f"{budget} with link={config.link!r}: its size does not follow the spikes: add +rans")


def _at_least(config: Settings, least: int, names: Sequence[str]) -> None:
    for name in names:
        if getattr(config, name) < least:
            raise UsageError(f"{name}={getattr(config, name)}: use {least} or more")
