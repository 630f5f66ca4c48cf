"""The settings of the two tasks: text and images. Making one checks it."""

import dataclasses
from typing import ClassVar, Literal

from snap_jax.errors import UsageError
from snap_jax.training.config.settings import Settings, typed
from snap_jax.training.config.validation import at_least, check


@dataclasses.dataclass(frozen=True)
class LanguageConfig(Settings):
    """Settings of `train language`: next-byte prediction on a text.

    Attributes:
      data: `stdlib` (the source text of Python's standard library), `enwik8`, or a path to text.
      model: The model: an RWKV or a transformer.
      context_tokens: Number of tokens that predict what is sent, under --budget or --rank. The bits that send them to
        every device are counted. Use 0 for no prediction.
      token_groups: Number of groups of tokens with thresholds and frequency tables of their own, under --budget or
        --rank. Vectors are sent sorted by the mean size of what their token leaves to send. It must divide --seq-len.
      heads: Number of heads of the time mix or of attention.
      streams: Number of residual streams that --width is divided into; layers read a weighted sum of them and have the
        width of one, as in hyper-connections.
      link_streams: Number of mixtures of the streams that are sent, learned for each channel, without the mean of the
        latest --context-tokens; it must divide --streams. The default sends all numbers. Needs --init-from.
      seq_len: Number of bytes in a sequence.
      heldout_bytes: How many bytes of held-out text to evaluate, evenly spread. Use None for all of them.
    """

    task: ClassVar[str] = "language"
    unit: ClassVar[str] = "byte"

    data: str = "stdlib"
    model: Literal["rwkv", "transformer"] = "rwkv"
    context_tokens: int = 4
    token_groups: int = 1
    heads: int = 4
    streams: int = 1
    link_streams: int | None = None
    seq_len: int = 128
    heldout_bytes: int | None = 131072

    def __post_init__(self):
        at_least(self, 1, ("heads", "streams", "link_streams", "seq_len", "token_groups", "heldout_bytes"))
        at_least(self, 0, ("context_tokens",))
        self._check_link_streams()
        check(self)
        self._check_token_groups()
        self._check_heads()
        if self.heads % self.device_layout.tensor:
            raise UsageError(
                f"{typed(self, ['layout'])}: {self.device_layout.tensor} devices do not divide "
                f"{typed(self, ['heads'])}: use --heads {self.device_layout.tensor}, or fewer devices along tensor"
            )

    def _check_token_groups(self) -> None:
        groups = typed(self, ["token_groups"])
        if self.token_groups > 1 and not self.has_transform:
            raise UsageError(f"{groups} needs a learned transform: add --budget or --rank")
        if self.seq_len % self.token_groups:
            raise UsageError(f"{groups} does not divide {typed(self, ['seq_len'])}: use a divisor, such as 8")

    def _check_link_streams(self) -> None:
        if self.link_streams is None:
            return
        named = typed(self, ["link_streams"])
        if self.streams % self.link_streams:
            raise UsageError(f"{named} does not divide {typed(self, ['streams'])}: use a divisor")
        if self.rank is not None or self.token_groups > 1:
            raise UsageError(f"{named} with --rank or --token-groups: it is a transform of its own: leave them out")

    def _check_heads(self) -> None:
        if self.width % self.streams:
            raise UsageError(f"{typed(self, ['streams'])} does not divide {typed(self, ['width'])}: use a divisor")
        least = 1 if self.model == "rwkv" else 2  # attention turns pairs of numbers, so that a head has an even size
        width = self.width // self.streams
        if width % (least * self.heads):
            fits = [str(n) for n in range(1, width + 1) if width % (least * n) == 0]
            raise UsageError(
                f"{typed(self, ['heads'])} does not divide {typed(self, ['width'])}"
                f"{f' / {self.streams} streams' if self.streams > 1 else ''}"
                f"{' into heads of an even size' if least > 1 else ''}: use {', '.join(fits) or 'an even width'}"
            )

    @property
    def predicting_tokens(self) -> int:
        """Number of tokens that the transform predicts from."""
        return self.context_tokens

    @property
    def sent_streams(self) -> tuple[int, int] | None:
        """Residual streams, and mixtures of them that are sent; None without mixtures."""
        return (self.streams, self.link_streams) if self.link_streams else None

    @property
    def groups_of_tokens(self) -> int:
        """Number of token groups."""
        return self.token_groups


@dataclasses.dataclass(frozen=True)
class VisionConfig(Settings):
    """Settings of `train vision`: image classification.

    Attributes:
      data: `digits`, `cifar10`, `cifar100`, `fashion_mnist`, `imagenet2012`, or a directory of IDX files.
      model: The model. `resnet` is an MS-ResNet without down-sampling. `resnet18` and `efficientnet-b0` to `-b4` have
        the layers of the published models; an EfficientNet also has their width.
      noise: Standard deviation of Gaussian noise added to the normalized images, drawn anew at every step. Held-out
        images are evaluated under eight draws of it.
      heldout_images: How many held-out images to evaluate, evenly spread. The default is all.
      augment: Mirror one training image in two (`flip`), shift each with a border of 1/8 of its sides (`crop`), or
        both. What happens to an image depends on the seed and on its place in the sequence of epochs only.
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
    noise: float = 0.0
    heldout_images: int | None = None
    augment: Literal["flip", "crop", "flip+crop"] | None = None

    def __post_init__(self):
        at_least(self, 1, ("heldout_images",))
        at_least(self, 0, ("noise",))
        check(self)

    @property
    def keeps_shape(self) -> bool:
        """Whether the residual stream has the same shape after every block."""
        return self.model == "resnet"
