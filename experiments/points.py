"""Points of a frontier: a method, and what it stands for: a codec, and what learns to send less."""

import dataclasses

from experiments import tasks
from snap_jax import Codec, Count, Integer, Packed, Rans, UsageError, budget
from snap_jax.specs import parse_link, unit_normal_threshold

_WIRE = Rans(ratio=1.02, least=1 / 64)


@dataclasses.dataclass(frozen=True)
class Point:
    """A method at one place of the frontier.

    Attributes:
      task: `text`, `digits` or `noisy`.
      method: `dense`, `spikes`, `integer`, or a link spec such as `topk:0.1` or `int4:absmax`.
      bits: of `integer`; the budget of `spikes`, wire bits an element in all.
      dims: what the basis keeps; 0 is no basis, mean or prediction.
      taps: tokens that predict.
      seed: of parameters and batches.
      steps: in all.
      width: of the model; 0 is the task's own.
      blocks: of the model; a boundary between any two.
      pressure: `budget`, or `penalty:W`, `l1:W`, `rate:TARGET`, `raise:W`.
      limit: most spikes of an element.
      grad: link of the cotangent.
      distill: weight of the dense model's own predictions in the loss.
      anneal: share of the run in which the budget comes down, from twice itself.
      dead_zone: where the first spike fires, in thresholds.
      segments: parts of a tensor whose tokens are alike, with thresholds and tables of their own.
      pace: of basis and mean, as in `Innovation`.
    """

    task: str
    method: str
    bits: float = 0.0
    dims: int = 0
    taps: int = 0
    seed: int = 0
    steps: int = 800
    width: int = 0
    blocks: int = 4
    pressure: str = "budget"
    limit: int = 31
    grad: str = "dense"
    distill: float = 0.0
    anneal: float = 0.0
    dead_zone: float = 0.5
    segments: int = 1
    pace: float = 0.25


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
        return Codec(Integer(bits, threshold=unit_normal_threshold(max(1, 2 ** (bits - 1) - 1))), Packed())
    return parse_link(point.method)


def reads_tokens(point: Point) -> bool:
    """Whether both sides of its boundaries need to hold the tokens."""
    return point.taps > 0 or point.segments > 1


def pressure_of(point: Point, context_bits: float) -> budget.Pressure | None:
    """What learns to send less; the context comes out of the budget first."""
    if point.method != "spikes":
        return None
    kind, _, weight = point.pressure.partition(":")
    if kind == "budget":
        left = point.bits - (context_bits if reads_tokens(point) else 0)
        if left <= 0:
            raise UsageError(f"frontier: bits={point.bits} do not even pay for the tokens, {context_bits}: use taps=0")
        start = 2.0 if point.anneal else 1.0
        return budget.Budget(left, first=0.05, start=start, anneal=point.anneal or 0.3)
    kinds = {"penalty": budget.Penalty, "l1": budget.L1, "raise": budget.RaiseThreshold}
    return budget.TargetRate(float(weight), 10.0) if kind == "rate" else kinds[kind](float(weight))
