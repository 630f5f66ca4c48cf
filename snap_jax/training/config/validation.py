"""What fields of a run cannot be together; the message names the fix.

Law: a run that passes these checks fails later only for its data, its machine or its model's sizes.
"""

import math
from collections.abc import Sequence

from snap_jax.codecs.link_spec import parse_link
from snap_jax.encodings import Cast, Int, TopK
from snap_jax.errors import UsageError
from snap_jax.training.config.settings import LINK, TICKS, Settings


def check(config: Settings) -> None:
    """Looks at what all tasks have.

    Raises:
      UsageError: a field out of its range, or two that cannot be together.
    """
    at_least(
        config, 1, ("chips", "layers", "width", "batch", "microbatches", "steps", "accumulate", "ticks", "token_groups")
    )
    at_least(config, 0, ("patience", "save_every", "rank"))
    if not 0 <= config.ema < 1:
        raise UsageError(f"ema={config.ema}: use a decay below 1, such as 0.999, or 0 for none")
    if config.batch % config.microbatches:
        raise UsageError(f"microbatches={config.microbatches} does not divide batch={config.batch}: use a divisor")
    _check_layout(config)
    _check_mode(config)
    _check_budget(config)
    _check_distill(config)
    _check_freeze(config)


def at_least(config: Settings, least: int, names: Sequence[str]) -> None:
    """Raises UsageError if a field of these names is less.

    >>> at_least(Settings("rwkv", chips=0), 1, ["chips"])
    Traceback (most recent call last):
    snap_jax.errors.UsageError: chips=0: use 1 or more
    """
    for name in names:
        if getattr(config, name) < least:
            raise UsageError(f"{name}={getattr(config, name)}: use {least} or more")


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
    if config.mode == "dense" and link not in (LINK, *floats):
        raise UsageError(f"{mode} sends floats, and link={config.link!r} does not: use --link bf16, or --mode hybrid")
    if config.mode == "dense" and grad_link not in ("", *floats):
        raise UsageError(f"{mode} sends floats, and grad_link={config.grad_link!r} does not: leave it out")
    if config.mode == "spiking" and not _spikes(config.link):
        raise UsageError(f"{mode} sends spikes, and link={config.link!r} sends none: use count:3, or --mode hybrid")
    if config.mode != "spiking" and config.ticks != TICKS:
        raise UsageError(f"ticks={config.ticks} with {mode}: only a spiking model has ticks: add --mode spiking")


def _check_freeze(config: Settings) -> None:
    if config.freeze is None:
        return
    freeze = f"prune_below={config.freeze}"
    if not 0 <= config.freeze < 1:
        raise UsageError(f"{freeze}: use a firing rate from 0 up to 1, such as 0.001")
    if config.mode == "dense" or not _learns_thresholds(config.sent_link):
        raise UsageError(f"{freeze} with link={config.sent_link!r}: there are no spikes to be silent: use count:3")
    if config.divided.pipeline != config.chips or config.chips == 1:
        raise UsageError(
            f"{freeze} with layout={config.layout!r}, chips={config.chips}: it is for a pipeline of 2 or more"
        )


def _check_distill(config: Settings) -> None:
    distill = f"distill={config.distill}"
    if not 0 <= config.distill <= 1:
        raise UsageError(f"{distill}: use a share of the loss from 0 to 1, such as 0.5")
    if config.distill and not config.init_from:
        raise UsageError(
            f"{distill}: the dense model that teaches is the one to start from: train one with --link fp32 first, "
            "then give its --out as --init-from"
        )


def _learns_thresholds(link: str) -> bool:
    codec = parse_link(link)
    return codec is not None and codec.encoding.threshold is not None


def _spikes(link: str) -> bool:
    codec = parse_link(link)
    return codec is not None and not isinstance(codec.encoding, Cast | Int | TopK)


def _check_budget(config: Settings) -> None:
    budget = f"budget={config.budget}"
    if config.budget < 0 or not math.isfinite(config.budget):
        raise UsageError(f"{budget}: use bits an element, such as 0.75, or 0 for none")
    if not config.budget:
        if config.token_groups > 1:
            raise UsageError(
                f"token_groups={config.token_groups} without a budget: vectors cross as they are: add --budget"
            )
        return
    if config.mode == "dense":
        raise UsageError(f"{budget} with mode=dense: floats cannot be fewer: use --mode hybrid")
    if config.divided.pipeline != config.chips:
        raise UsageError(f"{budget} with layout={config.layout!r}: it is met from die to die: use --layout pipeline")
    if not config.init_from:
        raise UsageError(
            f"{budget}: boundaries are calibrated on what crosses a trained model: train one with "
            "--link fp32 first, then give its --out as --init-from"
        )
    if not any(wire in config.sent_link for wire in ("+rans", "+ladder", "+events")):
        raise UsageError(f"{budget} with link={config.link!r}: its size does not follow the spikes: add +rans")
