"""One run of a frontier: dense for a fifth of the steps, then with learned boundaries; quality against wire bits.

Every method goes through `run` with the same data, steps, optimizer and calibration.
"""

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from experiments import tasks
from experiments.measuring import excess, measure
from experiments.points import Point, codec_of, pressure_of, reads_tokens, task_of
from snap_jax.boundary import rate_control
from snap_jax.boundary.boundary import Boundary
from snap_jax.boundary.calibrate import calibrate, fit_wire
from snap_jax.boundary.transforms import LearnedTransform
from snap_jax.codecs.link_spec import as_codec
from snap_jax.wires import Wire

_MEASURED_EVERY = 20  # steps


def run(point: Point, say: Callable[[str], None] = lambda _: None) -> dict:
    """Trains one point; returns what goes into its line of JSON."""
    began, task = time.monotonic(), task_of(point)
    model = trained(point, task, say)
    return dataclasses.asdict(point) | measure(model, task, point) | {"seconds": round(time.monotonic() - began, 1)}


def trained(point: Point, task: tasks.Task, say: Callable[[str], None] = lambda _: None) -> tasks.Cut:
    """The model of a point, trained on a task."""
    dense = point.steps // 5
    net = task.build(point.seed)
    _fit(tasks.Cut(net, []), task, point, None, 0, dense, say)
    teacher = _dense(task, point, say) if point.distill else None
    boundaries = _boundaries(point, task, net) if point.method != "dense" or point.rank else []
    model = tasks.Cut(net, boundaries)
    _fit(model, task, point, teacher, dense, point.steps, say)
    return model


def _dense(task: tasks.Task, point: Point, say: Callable[[str], None]) -> Any:
    """The dense model after as many steps."""
    net = task.build(point.seed)
    _fit(tasks.Cut(net, []), task, point, None, 0, point.steps, say)
    return net


def _boundaries(point: Point, task: tasks.Task, net: Any) -> list[Boundary]:
    transform = (
        LearnedTransform(
            point.rank, point.context_tokens, token_groups=point.token_groups, lr_multiplier=point.lr_multiplier
        )
        if point.rank
        else None
    )
    rngs, grad = nnx.Rngs(point.seed + 1000), as_codec(point.grad)
    batches = [task.batch(point.seed, 10**6 + i) for i in range(4)]
    inputs = jnp.concatenate([inputs for inputs, _, _ in batches])
    context = jnp.concatenate([tokens for _, _, tokens in batches]) if task.token_wire else None
    streams = jax.jit(lambda net, x: tasks.Cut(net, [])(x, None)[2])(net, inputs)
    boundaries = []
    for x in streams:
        boundary = Boundary(codec_of(point), task.width, grad_codec=grad, transform=transform, rngs=rngs)
        left = point.bits - (task.context_bits if reads_tokens(point) else 0)
        calibrate(boundary, x, context, bits=left * (2 if point.anneal_fraction else 1))
        boundaries.append(boundary)
    return boundaries


def _fit(model: tasks.Cut, task: tasks.Task, point: Point, teacher: Any, first: int, last: int, say: Callable) -> None:
    graph, params = nnx.split(model)
    params = jax.tree.map(lambda p: jax.lax.convert_element_type(p, p.dtype), params)  # a weak type would compile twice
    optimizer = tasks.optimizer(last - first, task.learning_rate)
    penalty = pressure_of(point, task.context_bits) if len(model.boundaries) else None
    multipliers = penalty.init(len(model.boundaries)) if penalty else jnp.zeros(0)

    def loss(params, inputs, labels, context, multipliers):
        model = nnx.merge(graph, params)
        logits, sent, _ = model(inputs, context)
        own = tasks.nats(logits, labels)
        total = own
        if teacher is not None:
            wanted = jax.nn.softmax(jax.lax.stop_gradient(teacher(inputs)))
            soft = -(wanted * jax.nn.log_softmax(logits)).sum(-1).mean()
            total = (1 - point.distill) * own + point.distill * soft
        if penalty is None:
            return total, (own, None)
        seen = _crossings(model.boundaries, sent)
        return total + penalty.loss(multipliers, seen).sum(), (own, seen)

    @tasks.jitted
    def step(params, state, multipliers, batch, over, progress):
        (_, (own, seen)), gradient = jax.value_and_grad(loss, has_aux=True)(params, *batch, multipliers)
        updates, state = optimizer.update(gradient, state, params)
        params = jax.tree.map(jnp.add, params, updates)
        if penalty is not None:
            measured = seen.bits * over
            multipliers = penalty.update(multipliers, measured, progress)
            _steer(params, penalty.threshold_step(measured, seen.saturation, progress))
        return params, state, multipliers, own, jnp.zeros(0) if seen is None else seen.bits

    state, over, wires = optimizer.init(params), jnp.ones(()), _wires(model)
    for index in range(first, last):
        batch = task.batch(point.seed, index)
        progress = jnp.float32((index - first) / (last - first))
        params, state, multipliers, own, bits = step(params, state, multipliers, batch, over, progress)
        if penalty is not None and index % _MEASURED_EVERY == 0:
            if index in _fitted_at(first, last):
                wires = _wires(_with_learned_book(nnx.merge(graph, params), task, point))
            over = excess(_with_wires(nnx.merge(graph, params), wires), batch)
        if index % 100 == 99:
            price = np.round(multipliers, 3)
            say(f"step {index + 1}: {float(own):.3f} nats, bits {np.round(bits, 2)}, price {price}")
    nnx.update(model, params)
    if penalty is not None:
        _with_learned_book(model, task, point)


def _steer(params: nnx.State, by: jax.Array) -> None:
    """All thresholds of each boundary by so much, in place."""
    for place, more in enumerate(by):
        boundary = params["boundaries"][place]
        boundary["log_threshold"] = jax.tree.map(lambda t, more=more: t + more, boundary["log_threshold"])


def _crossings(boundaries: Sequence[Boundary], sent: Sequence[jax.Array]) -> rate_control.BoundaryStats:
    """A row a boundary; bits an element of the stream, not of what is left of it in the basis."""
    each = [rate_control.boundary_stats(b.codec.encoding, z) for b, z in zip(boundaries, sent, strict=True) if b.codec]
    seen = rate_control.BoundaryStats(*map(jnp.stack, zip(*each, strict=True)))
    return seen._replace(bits=seen.bits * boundaries[0].share)


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
