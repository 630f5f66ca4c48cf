"""Points of a frontier: a method, and what it stands for: a codec, and what learns to send less."""

import dataclasses

from experiments import tasks
from snap_jax import Codec, Count, Int, Packed, Rans, UsageError
from snap_jax.boundary import rate_control, rate_penalties
from snap_jax.codecs.link_spec import as_codec, unit_normal_threshold

_WIRE = Rans(ratio=1.02, least=1 / 64)


@dataclasses.dataclass(frozen=True)
class Point:
    """A method at one place of the frontier.

    Attributes:
      task: `text`, `digits` or `noisy`.
      method: `dense`, `spikes`, `integer`, or a link spec such as `topk:0.1` or `int4:absmax`.
      bits: of `integer`; the budget of `spikes`, wire bits an element in all.
      rank: what the basis keeps; 0 is no basis, mean or prediction.
      context_tokens: tokens that predict.
      seed: of parameters and batches.
      steps: in all.
      width: of the model; 0 is the task's own.
      blocks: of the model; a boundary between any two.
      penalty: `budget`, or `penalty:W`, `l1:W`, `rate:TARGET`, `raise:W`.
      limit: most spikes of an element.
      grad: link of the cotangent.
      distill: weight of the dense model's own predictions in the loss.
      anneal_fraction: share of the run in which the budget comes down, from twice itself.
      dead_zone: where the first spike fires, in thresholds.
      token_groups: parts of a tensor whose tokens are alike, with thresholds and tables of their own.
      lr_multiplier: of basis and mean, as in `LearnedTransform`.
    """

    task: str
    method: str
    bits: float = 0.0
    rank: int = 0
    context_tokens: int = 0
    seed: int = 0
    steps: int = 800
    width: int = 0
    blocks: int = 4
    penalty: str = "budget"
    limit: int = 31
    grad: str = "fp32"
    distill: float = 0.0
    anneal_fraction: float = 0.0
    dead_zone: float = 0.5
    token_groups: int = 1
    lr_multiplier: float = 0.25


def task_of(point: Point) -> tasks.Task:
    """Data and model."""
    make = {"text": tasks.language, "digits": tasks.digits, "noisy": tasks.noisy}[point.task]
    return make(point.width, point.blocks) if point.width else make(blocks=point.blocks)


def codec_of(point: Point) -> Codec | None:
    """What crosses."""
    if point.method == "dense":
        return None
    if point.method == "spikes":
        return Codec(Count(point.limit, 1.0, dead_zone=point.dead_zone), _WIRE)
    if point.method == "integer":
        bits = int(point.bits)
        return Codec(Int(bits, threshold=unit_normal_threshold(max(1, 2 ** (bits - 1) - 1))), Packed())
    return as_codec(point.method)


def reads_tokens(point: Point) -> bool:
    """Whether both sides of its boundaries need to hold the tokens."""
    return point.context_tokens > 0 or point.token_groups > 1


def pressure_of(point: Point, context_bits: float) -> rate_penalties.RatePenalty | None:
    """What learns to send less; the context comes out of the budget first."""
    if point.method != "spikes":
        return None
    kind, _, weight = point.penalty.partition(":")
    if kind == "budget":
        left = point.bits - (context_bits if reads_tokens(point) else 0)
        if left <= 0:
            raise UsageError(
                f"frontier: bits={point.bits} do not even pay for the tokens, {context_bits}: use context_tokens=0"
            )
        start = 2.0 if point.anneal_fraction else 1.0
        return rate_control.RateController(
            left, init_multiplier=0.05, start_ratio=start, anneal_fraction=point.anneal_fraction or 0.3
        )
    kinds = {"penalty": rate_penalties.Penalty, "l1": rate_penalties.L1, "raise": rate_penalties.RaiseThreshold}
    return rate_penalties.TargetRate(float(weight), 10.0) if kind == "rate" else kinds[kind](float(weight))
