"""Which messages of a run are coded, by its `--link-policy`: decided from shapes, before anything is compiled."""

import dataclasses
import math
from typing import NamedTuple

import jax
from flax import nnx

from snap_jax.codecs.codec import Codec
from snap_jax.models.base import Network
from snap_jax.models.split import cuts
from snap_jax.policy import LinkChoice, choose
from snap_jax.training.config import Settings
from snap_jax.training.link_setup import Links, average_codec_of, message_sizes, region_codecs

FORWARD, BACKWARD = "stage to stage, forward", "stage to stage, backward"
REGIONS, COTANGENTS = "sums of tensor regions", "their gradients"
AVERAGES = "averages of replicas"


class Kept(NamedTuple):
    """The codecs of a run after its policy; None sends floats.

    Attributes:
      forward: between stages.
      backward: of their gradients.
      regions: of sums along `tensor`, forward and backward.
      averages: of replicas.
    """

    forward: Codec | None
    backward: Codec | None
    regions: tuple[Codec | None, Codec | None]
    averages: Codec | None


def kept_codecs(config: Settings, links: Links, choices: tuple[LinkChoice, ...]) -> Kept:
    """Return the codecs of the links, without those that the policy replaced by floats."""
    floats = {choice.message for choice in choices if choice.codec is None}
    keep = lambda message, codec: None if message in floats else codec  # noqa: E731
    forward, backward = region_codecs(config, links)
    return Kept(
        keep(FORWARD, links.codec),
        keep(BACKWARD, links.grad_codec),
        (keep(REGIONS, forward), keep(COTANGENTS, backward)),
        keep(AVERAGES, average_codec_of(config, links)),
    )


def choices_of(config: Settings, links: Links, model: Network, inputs: jax.ShapeDtypeStruct) -> tuple[LinkChoice, ...]:
    """Return a choice for each kind of message that a codec is named for; none without a policy.

    Messages of one kind share a codec, so the smallest decides. An average counts all parameters of a device at once.

    Args:
      config: of the run.
      links: of the run.
      model: on one device.
      inputs: shape and dtype of one row.

    Raises:
      UsageError: for a link that `auto` cannot price.
    """
    if config.link_policy is None:
        return ()
    layout, rows = config.device_layout, config.batch // config.parts // config.device_layout.data
    streams, regions = message_sizes(model, jax.ShapeDtypeStruct((rows, *inputs.shape), inputs.dtype))
    stream = min((streams[place - 1] for place in cuts(model, layout.pipeline)[:-1]), default=0)
    region, (forward, backward) = min(regions, default=0), region_codecs(config, links)
    parameters = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))
    of_device = parameters // layout.pipeline // layout.tensor
    messages = (
        (FORWARD, links.codec, stream, layout.pipeline, "ppermute"),
        (BACKWARD, links.grad_codec, stream, layout.pipeline, "ppermute"),
        (REGIONS, forward, region, layout.tensor, "psum"),
        (COTANGENTS, backward, region, layout.tensor, "psum"),
        (AVERAGES, average_codec_of(config, links), of_device, layout.data, "psum"),
    )
    return tuple(
        dataclasses.replace(
            choose(codec, (size,), devices, op, policy=config.link_policy, link=config.link_speed), message=message
        )
        for message, codec, size, devices, op in messages
        if devices > 1 and codec is not None and size
    )
