"""Checks which settings cannot be used together. Every message names the flags as typed, and the fix.

A run that passes these checks fails later only because of its data, its machine or the sizes of its model.
"""

import math
from collections.abc import Sequence

from snap_jax.codecs.link_spec import as_codec
from snap_jax.errors import UsageError
from snap_jax.training.config.axis_links import by_axis, check_axes
from snap_jax.training.config.settings import Settings, flag, from_scratch, typed
from snap_jax.training.penalties import parse_penalty

_FLOATS = ("fp32", "bf16")
_MANY = 2**16  # elements; a wire of several sizes has one for few elements


def check(config: Settings) -> None:
    """Check what all tasks share.

    Raises:
      UsageError: for a value out of range, or two that cannot be used together.
    """
    at_least(config, 1, ("devices", "layers", "width", "batch", "microbatches", "steps", "accumulate"))
    at_least(config, 1, ("patience", "log_every", "eval_every", "save_every", "keep"))
    at_least(config, 1, ("rank", "time_steps", "local_steps", "dense_steps"))
    at_most(config, 2**31 - 1, ("steps", "batch", "layers", "width"))
    at_most(config, (2**32 - 1) // config.steps, ("accumulate",))  # batches are numbered in 32 bits
    at_least(config, 0, ("seed",))
    at_most(config, 2**32 - 2, ("seed",))
    if not 0 < config.learning_rate < math.inf:
        raise UsageError(f"{typed(config, ['learning_rate'])}: use a number above 0, such as 0.008")
    if config.ema is not None and not 0 < config.ema < 1:
        raise UsageError(f"{typed(config, ['ema'])}: use a decay between 0 and 1, such as 0.999, or leave it out")
    if config.batch % config.microbatches:
        raise UsageError(f"{typed(config, ['microbatches'])} does not divide {typed(config, ['batch'])}: use a divisor")
    _check_layout(config)
    _check_links(config)
    _check_local_steps(config)
    _check_policy(config)
    _check_schedule(config)
    _check_mode(config)
    _check_transform(config)
    _check_budget(config)
    _check_penalty(config)
    _check_distill(config)
    _check_pruning(config)


def at_least(config: Settings, least: int, names: Sequence[str]) -> None:
    """Raise a UsageError if one of these fields is below `least`; None is allowed.

    >>> at_least(Settings("rwkv", devices=0), 1, ["devices"])
    Traceback (most recent call last):
    snap_jax.errors.UsageError: --devices 0: use 1 or more
    """
    for name in names:
        value = getattr(config, name)
        if value is not None and value < least:
            raise UsageError(f"{flag(name)} {value}: use {least} or more")


def at_most(config: Settings, most: int, names: Sequence[str]) -> None:
    """Raise a UsageError if one of these fields is above `most`; None is allowed.

    >>> at_most(Settings("rwkv", seed=2**64), 2**32 - 2, ["seed"])
    Traceback (most recent call last):
    snap_jax.errors.UsageError: --seed 18446744073709551616: use 4294967294 or less
    """
    for name in names:
        value = getattr(config, name)
        if value is not None and value > most:
            raise UsageError(f"{flag(name)} {value}: use {most} or less")


def _check_layout(config: Settings) -> None:
    layout = config.device_layout
    if config.keeps_shape and config.layers % layout.pipeline:
        fits = ", ".join(str(n) for n in range(1, config.layers + 1) if config.layers % n == 0)
        stages = typed(config, ["devices"]) if layout.pipeline == config.devices else typed(config, ["layout"])
        raise UsageError(
            f"{stages}: {layout.pipeline} pipeline stages do not divide {typed(config, ['layers'])}: "
            f"use {fits} stages, or other --layers"
        )
    if config.batch % layout.data:
        raise UsageError(
            f"{typed(config, ['layout'])}: {layout.data} replicas do not divide {typed(config, ['batch'])}: "
            f"use --batch {-(-config.batch // layout.data) * layout.data}"
        )


def _check_links(config: Settings) -> None:
    layout = config.device_layout
    for name in ("link", "grad_link"):
        if (spec := getattr(config, name)) is not None:
            check_axes(spec, flag(name), layout, config.layout)
    said = config.average_links
    if config.link is not None and "=" not in config.link and "grad_link" in said and layout.data == config.devices:
        said = {"link": config.link.strip().lower()} | said
    if layout.data > 1 and len(set(said.values())) > 1:
        raise UsageError(
            f"{typed(config, ['link', 'grad_link', 'layout'])}: both say how replicas average gradients: leave one out"
        )
    if config.average_link is not None:
        as_codec(config.average_link)


def _check_local_steps(config: Settings) -> None:
    if config.local_steps is None:
        outer = [name for name in ("outer_lr", "outer_momentum") if getattr(config, name) != getattr(Settings, name)]
        if outer:
            raise UsageError(f"{typed(config, outer)} without --local-steps: add --local-steps 30")
        return
    steps = typed(config, ["local_steps"])
    if config.device_layout.data == 1:
        raise UsageError(
            f"{steps} with {typed(config, ['layout'])}: there are no replicas: use --layout data:2 or more"
        )
    if not config.outer_lr > 0 or not 0 <= config.outer_momentum < 1:
        raise UsageError(
            f"{typed(config, ['outer_lr', 'outer_momentum'])}: use a rate above 0 and a momentum from 0 up to 1, such "
            "as 0.7 and 0.9"
        )
    for name in ("budget", "penalty"):
        if getattr(config, name) is not None:
            raise UsageError(f"{steps} with {typed(config, [name])}: rates are controlled in every step: leave one out")


def _check_policy(config: Settings) -> None:
    policy = typed(config, ["link_policy"])
    if (config.link_policy == "auto") != (config.link_speed is not None):
        raise UsageError(
            f"{typed(config, ['link_policy', 'link_speed'])}: give --link-speed with --link-policy auto, and only "
            "then: a system such as ethernet-400g, or a JSON file with latency_s and bytes_per_s"
        )
    needs_spikes = ("budget", "rank", "penalty", "prune_below")
    given = [name for name in needs_spikes if getattr(config, name) is not None]
    given += ["mode"] if config.mode == "spiking" else []
    if config.link_policy in ("native", "auto") and given:
        raise UsageError(f"{policy} with {typed(config, given)}: spikes must cross: use --link-policy exact")


def _check_schedule(config: Settings) -> None:
    named = typed(config, ["pipeline_schedule"])
    if config.pipeline_schedule == "interleaved":
        raise UsageError(
            f"{named}: a device of `snap-jax train` holds one stage: use gpipe or 1f1b, or "
            "snap_jax.parallel.interleaved in a program of your own"
        )
    if config.pipeline_schedule not in ("gpipe", "1f1b"):
        raise UsageError(f"{named}: use gpipe or 1f1b")
    if config.pipeline_schedule == "1f1b" and config.remat != "none":
        raise UsageError(
            f"{typed(config, ['remat'])} with {named}: it computes each stage again anyway: leave --remat out"
        )


def _check_mode(config: Settings) -> None:
    mode = typed(config, ["mode"])
    for name in ("link", "grad_link"):
        value = getattr(config, name)
        links = [] if value is None else (by_axis(value, flag(name)) or {"": value}).values()
        if config.mode == "dense" and any(link.strip().lower() not in _FLOATS for link in links):
            raise UsageError(f"{mode} sends floats, {typed(config, [name])} does not: use fp32, bf16, or --mode hybrid")
    if config.mode == "spiking" and not _spikes(config.sent_link):
        raise UsageError(
            f"{mode} sends spikes, {typed(config, ['link'])} does not: use --link count:3, or --mode hybrid"
        )
    if config.mode != "spiking" and config.time_steps is not None:
        raise UsageError(f"{typed(config, ['time_steps'])} with {mode}: only neurons have them: use --mode spiking")


def _check_pruning(config: Settings) -> None:
    if config.prune_below is None:
        return
    below = typed(config, ["prune_below"])
    if not 0 <= config.prune_below < 1:
        raise UsageError(f"{below}: use a firing rate from 0 up to 1, such as 0.001")
    if config.mode == "dense" or not _learns_thresholds(config.sent_link):
        raise UsageError(f"{below} with --link {config.sent_link}: no spikes are sent: use --link count:3")
    if config.device_layout.pipeline != config.devices or config.devices == 1:
        raise UsageError(
            f"{below} with {typed(config, ['layout', 'devices'])}: channels are pruned between pipeline stages: "
            "use --layout pipeline with 2 devices or more"
        )


def _check_penalty(config: Settings) -> None:
    if config.anneal is not None and not (config.budget is not None and 0 < config.anneal <= 1):
        raise UsageError(f"{typed(config, ['anneal'])}: use a share of the run from 0 to 1, together with --budget")
    if not config.transform_lr > 0:
        raise UsageError(f"{typed(config, ['transform_lr'])}: use a number above 0, such as 0.25")
    if config.penalty is None:
        return
    penalty = typed(config, ["penalty"])
    parse_penalty(config.penalty)
    if config.budget is not None:
        raise UsageError(f"{penalty} with {typed(config, ['budget'])}: a budget sets the weight: leave one of them out")
    if not _learns_thresholds(config.sent_link):
        raise UsageError(
            f"{penalty} with --link {config.sent_link}: no thresholds are learned: use --link count:31+rans"
        )
    _check_stages(config, penalty)


def _check_distill(config: Settings) -> None:
    if config.distill is None:
        if config.teacher is not None:
            raise UsageError(f"{typed(config, ['teacher'])} without --distill: add a weight, such as --distill 0.5")
        return
    distill = typed(config, ["distill"])
    if not 0 < config.distill <= 1:
        raise UsageError(f"{distill}: use a weight above 0 and up to 1, such as 0.5, or leave it out")
    _check_starts(config, distill, "the teacher is the dense run to start from")


def _learns_thresholds(link: str) -> bool:
    codec = as_codec(link)
    return codec is not None and codec.encoding.threshold is not None


def _spikes(link: str) -> bool:
    codec = as_codec(link)
    return codec is not None and not codec.encoding.baseline


def _check_transform(config: Settings) -> None:
    if not config.has_transform:
        return
    set_by = "budget" if config.budget is not None else "rank" if config.rank is not None else "link_streams"
    what = typed(config, [set_by])
    _check_stages(config, what)
    _check_starts(config, what, "boundaries are calibrated on the activations of a trained model")


def _check_stages(config: Settings, what: str) -> None:
    """Pipelines, with or without replicas, have boundaries between stages; sums along `tensor` have none."""
    layout = config.device_layout
    if layout.tensor > 1 or (layout.pipeline == 1 and layout.data > 1):
        raise UsageError(
            f"{what} with {typed(config, ['layout'])}: it applies between pipeline stages: use --layout pipeline, "
            "or data:2+pipeline"
        )


def _check_starts(config: Settings, what: str, why: str) -> None:
    if config.init_from is None and config.budget is None:
        raise UsageError(f"{what}: {why}: train one with --link fp32 first, then give its --out as --init-from")


def _check_budget(config: Settings) -> None:
    if config.dense_steps is not None and not from_scratch(config):
        raise UsageError(
            f"{typed(config, ['dense_steps'])}: only a budget without --init-from has a dense phase: leave it out, or "
            "add --budget 1"
        )
    if config.budget is None:
        return
    budget = typed(config, ["budget"])
    if config.budget <= 0 or not math.isfinite(config.budget):
        raise UsageError(f"{budget}: use a number of bits per element above 0, such as 0.75, or leave it out")
    if config.mode == "dense":
        raise UsageError(f"{budget} with --mode dense: floats have a fixed size: use --mode hybrid")
    codec = as_codec(config.sent_link)
    if codec is None or len(codec.sizes(_MANY)) == 1:
        raise UsageError(f"{budget} with --link {config.sent_link}: its payload has a fixed size: add +rans")
