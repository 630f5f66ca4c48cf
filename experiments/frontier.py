"""One run of a frontier: dense for a fifth of the steps, then with learned boundaries; quality against wire bits.

Every method goes through `run` with the same data, steps, optimizer and calibration. `wire_bits` are those of the
payloads of held-out batches, headers and the rungs taken included, an element of the stream that is cut; tokens that
predict are sent to every chip and counted besides.
"""

import dataclasses
import json
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from experiments import tasks
from snap_jax import Codec, Count, Float, Integer, Packed, Rans, UsageError, budget
from snap_jax.calibrate import calibrate, fit_wire
from snap_jax.innovation import Innovation
from snap_jax.nn import Boundary
from snap_jax.specs import parse_link, unit_normal_threshold
from snap_jax.wires import Wire

_WIRE = Rans(ratio=1.02, least=1 / 64)
_MEASURED_EVERY = 20  # steps


@dataclasses.dataclass(frozen=True)
class Point:
    """A method at one place of the frontier.

    Attributes:
      task: `text` or `digits`.
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
    limit: int = 15
    grad: str = "dense"
    distill: float = 0.0
    anneal: float = 0.0
    dead_zone: float = 0.5


def task_of(point: Point) -> tasks.Task:
    """Data and model."""
    make = {"text": tasks.language, "digits": tasks.digits}[point.task]
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


def pressure_of(point: Point, context_bits: float) -> budget.Pressure | None:
    """What learns to send less; the context comes out of the budget first."""
    if point.method != "spikes":
        return None
    kind, _, weight = point.pressure.partition(":")
    if kind == "budget":
        left = point.bits - (context_bits if point.taps else 0)
        if left <= 0:
            raise UsageError(f"frontier: bits={point.bits} do not even pay for the tokens, {context_bits}: use taps=0")
        start = 2.0 if point.anneal else 1.0
        return budget.Budget(left, first=0.05, start=start, anneal=point.anneal or 0.3)
    kinds = {"penalty": budget.Penalty, "l1": budget.L1, "raise": budget.RaiseThreshold}
    return budget.TargetRate(float(weight), 10.0) if kind == "rate" else kinds[kind](float(weight))


def run(point: Point, say: Callable[[str], None] = lambda _: None) -> dict:
    """Trains one point; returns what goes into its line of JSON."""
    began, task = time.monotonic(), task_of(point)
    dense = point.steps // 5
    net = task.build(point.seed)
    _fit(tasks.Cut(net, []), task, point, None, 0, dense, say)
    teacher = nnx.clone(net) if point.distill else None
    boundaries = _boundaries(point, task, net) if point.method != "dense" or point.dims else []
    model = tasks.Cut(net, boundaries)
    _fit(model, task, point, teacher, dense, point.steps, say)
    return dataclasses.asdict(point) | measure(model, task, point) | {"seconds": round(time.monotonic() - began, 1)}


def _boundaries(point: Point, task: tasks.Task, net: Any) -> list[Boundary]:
    around = Innovation(point.dims, point.taps) if point.dims else None
    rngs, grad = nnx.Rngs(point.seed + 1000), parse_link(point.grad)
    batches = [task.batch(point.seed, 10**6 + i) for i in range(4)]
    inputs = jnp.concatenate([inputs for inputs, _, _ in batches])
    context = jnp.concatenate([tokens for _, _, tokens in batches]) if task.context_bits else None
    streams = jax.jit(lambda net, x: tasks.Cut(net, [])(x, None)[2])(net, inputs)
    boundaries = []
    for x in streams:
        boundary = Boundary(codec_of(point), task.width, grad_codec=grad, around=around, rngs=rngs)
        left = point.bits - (task.context_bits if point.taps else 0)
        calibrate(boundary, x, context, bits=left * (2 if point.anneal else 1))
        boundaries.append(boundary)
    return boundaries


def _fit(model: tasks.Cut, task: tasks.Task, point: Point, teacher: Any, first: int, last: int, say: Callable) -> None:
    graph, params = nnx.split(model)
    optimizer = tasks.optimizer(last - first, task.learning_rate)
    pressure = pressure_of(point, task.context_bits) if len(model.boundaries) else None
    multipliers = pressure.init(len(model.boundaries)) if pressure else jnp.zeros(0)

    def loss(params, inputs, labels, context, multipliers):
        model = nnx.merge(graph, params)
        logits, sent, _ = model(inputs, context)
        own = tasks.nats(logits, labels)
        total = own
        if teacher is not None:
            wanted = jax.nn.softmax(jax.lax.stop_gradient(teacher(inputs)))
            soft = -(wanted * jax.nn.log_softmax(logits)).sum(-1).mean()
            total = (1 - point.distill) * own + point.distill * soft
        if pressure is None:
            return total, (own, jnp.zeros(0))
        seen = _crossings(model.boundaries, sent, task.width)
        return total + pressure.loss(multipliers, seen).sum(), (own, seen.bits)

    @tasks.jitted
    def step(params, state, multipliers, batch, excess, progress):
        (_, (own, bits)), gradient = jax.value_and_grad(loss, has_aux=True)(params, *batch, multipliers)
        updates, state = optimizer.update(gradient, state, params)
        if pressure is not None:
            multipliers = pressure.update(multipliers, bits * excess, progress)
        return jax.tree.map(jnp.add, params, updates), state, multipliers, own, bits

    state, excess, wires = optimizer.init(params), jnp.ones(()), _wires(model)
    for index in range(first, last):
        batch = task.batch(point.seed, index)
        progress = jnp.float32((index - first) / (last - first))
        params, state, multipliers, own, bits = step(params, state, multipliers, batch, excess, progress)
        if pressure is not None and index % _MEASURED_EVERY == 0:
            if index in _fitted_at(first, last):
                wires = _wires(_with_learned_book(nnx.merge(graph, params), task, point))
            excess = _excess(_with_wires(nnx.merge(graph, params), wires), batch)
        if index % 100 == 99:
            say(f"step {index + 1}: {float(own):.3f} nats, bits {np.round(bits, 2)}, price {np.round(multipliers, 3)}")
    nnx.update(model, params)
    if pressure is not None:
        _with_learned_book(model, task, point)


def _crossings(boundaries: Sequence[Boundary], sent: Sequence[jax.Array], width: int) -> budget.Crossing:
    """A row a boundary; bits an element of the stream, not of what is left of it in the basis."""
    each = [budget.crossing(b.codec.encoding, z) for b, z in zip(boundaries, sent, strict=True) if b.codec]
    seen = budget.Crossing(*map(jnp.stack, zip(*each, strict=True)))
    return seen._replace(bits=seen.bits * sent[0].shape[-1] / width)


@nnx.jit
def _wire_and_entropy(model: tasks.Cut, inputs: jax.Array, context: jax.Array | None) -> tuple:
    logits, sent, _ = model(inputs, context)
    pairs = [(b.codec, z) for b, z in zip(model.boundaries, sent, strict=True) if b.codec is not None]
    spiking = [(c, z) for c, z in pairs if not isinstance(c.encoding, Float)]
    nbytes = [c.sent_bytes(z) for c, z in pairs]
    seen = [budget.crossing(c.encoding, z) for c, z in spiking]
    bits = [s.bits * z.size for s, (_, z) in zip(seen, spiking, strict=True)]
    return logits, jnp.stack(nbytes or [0]), jnp.stack(bits or [0.0]), jnp.stack([s.rate for s in seen] or [0.0])


def _fitted_at(first: int, last: int) -> tuple[int, ...]:
    """Steps at which the wire's book is learned anew; each costs a compilation."""
    return tuple((first + int((last - first) * share)) // _MEASURED_EVERY * _MEASURED_EVERY for share in (0.3, 0.75))


def _with_learned_book(model: tasks.Cut, task: tasks.Task, point: Point) -> tasks.Cut:
    inputs, _, context = task.batch(point.seed, 10**6)
    fit_wire(list(model.boundaries), jax.jit(lambda m, x, c: m(x, c)[1])(model, inputs, context))
    return model


def _wires(model: tasks.Cut) -> list[Wire]:
    return [boundary.codec.wire for boundary in model.boundaries if boundary.codec is not None]


def _with_wires(model: tasks.Cut, wires: Sequence[Wire]) -> tasks.Cut:
    for boundary, wire in zip(model.boundaries, wires, strict=True):
        boundary.set_wire(wire)
    return model


def _excess(model: tasks.Cut, batch: tuple) -> jax.Array:
    """What the wire takes over what the code length says."""
    _, nbytes, bits, _ = _wire_and_entropy(model, batch[0], batch[2])
    return 8 * nbytes.sum() / jnp.maximum(bits.sum(), 1.0)


def measure(model: tasks.Cut, task: tasks.Task, point: Point) -> dict:
    """Quality on held-out data and what the wire took for it."""
    nats = right = count = bits = entropy = elements = rate = 0.0
    for inputs, labels, context in task.heldout:
        logits, nbytes, entropies, rates = _wire_and_entropy(model, inputs, context)
        nats += float(tasks.nats(logits, labels)) * labels.size
        right += float((logits.argmax(-1) == labels).sum())
        count += labels.size
        bits, entropy, rate = bits + 8 * float(nbytes.sum()), entropy + float(entropies.sum()), float(rates.mean())
        elements += inputs.size * task.width * (point.blocks - 1)  # a vector a token or pixel
    extra = task.context_bits if point.taps else 0.0
    return {
        "nats": nats / count,
        "bits_per_byte": nats / count / math.log(2),
        "accuracy": 100 * right / count,
        "wire_bits": bits / elements + extra,
        "entropy_bits": entropy / elements,
        "context_bits": extra,
        "firing_rate": rate,
    }


def sweep(points: Sequence[Point], file: Path, say: Callable[[str], None] = print) -> list[dict]:
    """Runs what `file` does not hold yet; a line of JSON each, appended as it is done."""
    file.parent.mkdir(parents=True, exist_ok=True)
    for number, point in enumerate(points):
        if find(point, load(file)) is None:
            say(f"[{number + 1}/{len(points)}] {point}")
            line = run(point, say)
            with file.open("a", encoding="utf-8") as out:
                out.write(json.dumps(line | {"jax": jax.__version__}) + "\n")
            quality = f"{line['bits_per_byte']:.4f} bits/byte, {line['accuracy']:.2f} %"
            say(f"    {quality}, {line['wire_bits']:.3f} wire bits")
    return [line for point in points if (line := find(point, load(file))) is not None]


def load(file: Path) -> list[dict]:
    """The lines of a file; none if it is not there. A last line that was cut short is left out."""
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True) if file.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def find(point: Point, lines: Sequence[dict]) -> dict | None:
    """The line of a point."""
    wanted = dataclasses.asdict(point)
    return next((line for line in lines if all(line.get(k) == v for k, v in wanted.items())), None)
