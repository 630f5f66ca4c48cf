"""What crosses between the stages of a run: codec, learned transform, rate penalty; and how many elements do.

Without a budget or a rank nothing surrounds the codec, and nothing is added to the loss.
"""

import dataclasses
import math
from collections.abc import Callable

import jax
from flax import nnx
from jaxtyping import Array

from snap_jax.boundary.rate_control import RateController, RatePenalty
from snap_jax.boundary.transforms import LearnedTransform, SentStreams, TransformMaker
from snap_jax.codecs.codec import Codec
from snap_jax.codecs.link_spec import as_codec
from snap_jax.errors import UsageError
from snap_jax.models.base import Network
from snap_jax.models.split import cuts
from snap_jax.parallel import data_parallel
from snap_jax.parallel.gpipe import GPipe
from snap_jax.parallel.tensor_parallel import Region, WholeRegion
from snap_jax.training.config import Settings
from snap_jax.training.config.settings import typed
from snap_jax.training.penalties import parse_penalty

_START = 0.6  # of the bits a spike could have: where thresholds start that no budget decides


@dataclasses.dataclass(frozen=True)
class Links:
    """What the boundaries of a run are made of.

    Attributes:
      codec: for the forward pass, also of tensor regions; None sends floats.
      grad_codec: for the backward pass; None sends floats.
      transform: number of features -> the transform of such a boundary, as `Boundary` takes it, or None.
      penalty: what is added to the loss so that less is sent; None adds nothing.
      start_bits: bits per element that thresholds are calibrated to on trained activations; None leaves them.
    """

    codec: Codec | None
    grad_codec: Codec | None
    transform: Callable[[int], TransformMaker | None]
    penalty: RatePenalty | None = None
    start_bits: float | None = None


def links_of(config: Settings, context_bits: float = 0.0) -> Links:
    """Return the links that a config asks for.

    Args:
      config: of the run.
      context_bits: bits per element that the tokens take which both ends of a boundary need.

    >>> from snap_jax.training.config import LanguageConfig
    >>> links_of(LanguageConfig(budget=1.0, init_from="runs/dense")).transform(64)
    LearnedTransform(rank=24, context_tokens=4, vocabulary=256, hidden=128, token_groups=1, lr_multiplier=0.25)
    >>> links_of(LanguageConfig(link="fp32")).codec is None
    True

    Raises:
      UsageError: for a link that is not known, or a budget that those tokens use up.
    """
    codec, controller = as_codec(config.sent_link), controller_of(config, context_bits)

    def transform(features: int) -> TransformMaker | None:
        if not config.has_transform:
            return None
        if config.sent_streams is not None:
            return SentStreams(*config.sent_streams, config.predicting_tokens, lr_multiplier=config.transform_lr)
        return LearnedTransform(
            config.sent_rank(features),
            config.predicting_tokens,
            token_groups=config.groups_of_tokens,
            lr_multiplier=config.transform_lr,
        )

    if controller is not None:
        start = float(controller.target(0.0))
    else:
        learns = config.has_transform or (codec is not None and codec.encoding.threshold is not None)
        start = _start_bits(config, codec) if config.init_from is not None and learns else None
    penalty = controller if config.penalty is None else parse_penalty(config.penalty)
    return Links(codec, as_codec(config.backward_link), transform, penalty, start)


def average_codec_of(config: Settings, links: Links) -> Codec | None:
    """Return how replicas average gradients: as a flag says, or with the spikes of the links; None for floats."""
    if config.average_link is None:
        return data_parallel.codec_for(links.codec)
    return data_parallel.average_codec(as_codec(config.average_link))


def region_codecs(config: Settings, links: Links) -> tuple[Codec | None, Codec | None]:
    """Return what sums of tensor regions send forward and backward: as the stages, unless a flag names `tensor`."""
    if "=" not in f"{config.link} {config.grad_link}":
        return links.codec, links.grad_codec
    return as_codec(config.link_along("tensor")), as_codec(config.grad_link_along("tensor"))


def controller_of(config: Settings, context_bits: float) -> RateController | None:
    """Return the rate controller of each boundary; `context_bits` come out of the budget first.

    >>> from snap_jax.training.config import LanguageConfig
    >>> controller_of(LanguageConfig(budget=1.0, init_from="runs/dense"), 0.125).bits_per_element
    0.875

    Raises:
      UsageError: if they leave nothing.
    """
    if config.budget is None:
        return None
    if config.budget <= context_bits:
        raise UsageError(
            f"{typed(config, ['budget'])}: the tokens that both ends of a boundary need take {context_bits:.3g} bits "
            "per element: use a larger budget, or --context-tokens 0 and --token-groups 1"
        )
    start_ratio, fraction = (1.0, 0.3) if config.anneal is None else (2.0, config.anneal)
    return RateController(config.budget - context_bits, start_ratio=start_ratio, anneal_fraction=fraction)


def _start_bits(config: Settings, codec: Codec | None) -> float:
    levels = 1 if codec is None else len(codec.encoding.symbols)
    return _START * math.log2(max(2, levels)) * config.sent_rank(config.width) / config.width


def crossing_elements(config: Settings, model: Network, inputs: jax.ShapeDtypeStruct) -> int:
    """Return how many elements cross forward for one batch; with float links, 4 bytes each.

    `ticks tensor sum_boundaries stream + 2 passes microbatches (tensor - 1) sum_regions out`, all replicas together,
    where `ticks` are those of the schedule. A stream crosses each pipeline boundary from every device that holds it,
    in idle ticks of the pipeline too. A sum over n devices takes 2 (n - 1) elements for each of its own: n - 1 to add
    it up and n - 1 to return it; an idle stage sums nothing. A stage of 1F1B sums in two passes.

    Args:
      config: of the run.
      model: on one device.
      inputs: shape and dtype of one row.
    """
    layout, rows = config.device_layout, config.batch // config.parts
    streams, summed = message_sizes(model, jax.ShapeDtypeStruct((rows, *inputs.shape), inputs.dtype))
    crossing = sum(streams[place - 1] for place in cuts(model, layout.pipeline)[:-1])
    ticks = GPipe(config.parts, layout.pipeline).ticks
    passes = 2 if config.pipeline_schedule == "1f1b" else 1
    return ticks * layout.tensor * crossing + 2 * passes * config.parts * (layout.tensor - 1) * sum(summed)


class _CountingRegion(WholeRegion):
    """A region on one device that notes, while it is traced, how many elements would leave each of many devices."""

    def __init__(self, features: int, sizes: list[int]):
        super().__init__(features)
        self.sizes = nnx.static(sizes)

    def leave(self, partial: Array) -> Array:
        self.sizes.append(partial.size)
        return partial


def message_sizes(model: Network, microbatch: jax.ShapeDtypeStruct) -> tuple[list[int], list[int]]:
    """Return the sizes of the stream after each block, and of what leaves each region."""
    counted, leaving, streams = nnx.clone(model), [], []
    modules = dict(nnx.iter_modules(counted))
    for path, module in modules.items():
        if isinstance(module, Region):
            setattr(modules[path[:-1]], str(path[-1]), _CountingRegion(module.features, leaving))

    def run(x: Array) -> None:
        x = counted.enter(x)
        for block in counted.blocks:
            x = block(x)
            streams.append(x.size)

    jax.eval_shape(run, microbatch)
    return streams, leaving
