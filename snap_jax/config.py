"""What one run is: data, links, sizes, length; and the command line that repeats it."""

import dataclasses
import shlex

from snap_jax.errors import UsageError


@dataclasses.dataclass(frozen=True)
class Config:
    """One run: what to train on, how chips talk, how long.

    Attributes:
      data: `stdlib`, `enwik8`, or a path to text.
      link: what crosses from chip to chip, e.g. `dense`, `bf16`, `int4`, `count:3+packed`.
      grad_link: the same for the way back; empty means dense for a dense link, else bf16.
      chips: dies of the pipeline; must divide the layers.
      layers: blocks of the model.
      width: of the residual stream.
      heads: of the time mix.
      window: bytes a sequence.
      batch: sequences a step.
      microbatches: parts of a batch that follow each other through the pipeline.
      steps: of the optimizer.
      learning_rate: its peak; it warms up linearly and decays as a cosine.
      heldout_bytes: how much held-out text to evaluate, evenly spread; 0 takes all.
      seed: of parameters and batches.
    """

    data: str = "stdlib"
    link: str = "count:3"
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
    heldout_bytes: int = 131072
    seed: int = 0

    def __post_init__(self):
        for name in ("chips", "layers", "width", "heads", "window", "batch", "microbatches", "steps"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name}={getattr(self, name)}: use 1 or more")
        if self.batch % self.microbatches:
            raise UsageError(f"microbatches={self.microbatches} does not divide batch={self.batch}: use a divisor")
        if self.layers % self.chips:
            fits = ", ".join(str(n) for n in range(1, self.layers + 1) if self.layers % n == 0)
            raise UsageError(f"chips={self.chips} does not divide layers={self.layers}: use {fits}, or other layers")

    @property
    def backward_link(self) -> str:
        """The link of the cotangent."""
        return self.grad_link or ("dense" if self.link == "dense" else "bf16")


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
