"""The tasks there are: text, and pictures.

Law: fields that cannot be together are refused when a config is made.
"""

import dataclasses
from typing import ClassVar, Literal

from snap_jax.errors import UsageError
from snap_jax.training.config.settings import Settings
from snap_jax.training.config.validation import at_least, check


@dataclasses.dataclass(frozen=True)
class LanguageConfig(Settings):
    """Next-byte prediction on a text: a run of `train language`.

    Attributes:
      data: `stdlib`, `enwik8`, or a path to text.
      model: `rwkv`, or `transformer`.
      context_tokens: tokens that predict what is sent under a budget; what it takes to send them to every chip counts,
        entropy-coded.
      heads: of the time mix, or of attention.
      seq_len: bytes a sequence.
      heldout_bytes: how much held-out text to evaluate, evenly spread; 0 takes all.
    """

    task: ClassVar[str] = "language"
    unit: ClassVar[str] = "byte"

    data: str = "stdlib"
    model: Literal["rwkv", "transformer"] = "rwkv"
    context_tokens: int = 4
    heads: int = 4
    seq_len: int = 128
    heldout_bytes: int = 131072

    def __post_init__(self):
        at_least(self, 1, ("heads", "seq_len"))
        at_least(self, 0, ("context_tokens", "heldout_bytes"))
        check(self)
        if self.seq_len % self.token_groups:
            raise UsageError(
                f"token_groups={self.token_groups} does not divide window={self.seq_len}: use a divisor, such as 8"
            )
        if self.heads % self.divided.tensor:
            raise UsageError(
                f"layout={self.layout!r}: {self.divided.tensor} chips do not divide heads={self.heads}: "
                f"use --heads {self.divided.tensor}, or fewer chips along tensor"
            )

    @property
    def predicting(self) -> int:
        """Tokens that predict what is sent under a budget."""
        return self.context_tokens


@dataclasses.dataclass(frozen=True)
class VisionConfig(Settings):
    """Which class a picture is of: a run of `train vision`.

    Attributes:
      data: `digits`, `cifar10`, `cifar100`, `fashion_mnist`, `imagenet2012`, or a directory of IDX files.
      model: `resnet`, an MS-ResNet whose stream keeps one shape; or `resnet18`, with down-sampling, and
        `efficientnet-b0` to `-b4`, whose layers, and the width of an EfficientNet, are theirs.
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
        at_least(self, 0, ("heldout_images",))
        if self.token_groups > 1:
            raise UsageError(
                f"token_groups={self.token_groups}: vectors are sorted by token, and pictures have none: use 1"
            )
        check(self)

    @property
    def keeps_shape(self) -> bool:
        """Whether the stream of the model has one shape."""
        return self.model == "resnet"
