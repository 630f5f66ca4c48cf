"""Pipelines: what stages of one structure, or each of its own, compute and send to the next.

Invariant: on any number of stages the loss is that of all stages computed one after the other on one device, with
boundaries that quantize.

>>> from snap_jax.parallel.gpipe import GPipe
>>> from snap_jax.parallel.mesh import auto_mesh
>>> work = SameStages(
...     enter=lambda weight, x: x,
...     body=lambda weight, x: weight * x,
...     leave=lambda weight, x, _: (jnp.sum(x), x),
...     boundary=lambda weight: Boundary(None, features=2),
...     stages=2,
... )
>>> def run(weights, xs):
...     loss, (ends, _), _ = GPipe(microbatches=3, stages=2).run(work, weights[0], xs)
...     return loss, jax.lax.psum(ends, "stage")
>>> P = jax.sharding.PartitionSpec
>>> run = jax.shard_map(run, mesh=auto_mesh({"stage": 2}), in_specs=(P("stage"), P()), out_specs=P())
>>> loss, ends = run(jnp.array([2.0, 5.0]), jnp.ones((3, 2)))
>>> loss.item(), ends.tolist()
(60.0, [[10.0, 10.0], [10.0, 10.0], [10.0, 10.0]])
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, PyTree

from snap_jax import collectives
from snap_jax._compat import as_varying
from snap_jax.boundary.boundary import Boundary
from snap_jax.boundary.telemetry import observe
from snap_jax.codecs.codec import Codec
from snap_jax.parallel.mesh import STAGE
from snap_jax.parallel.schedule import scope_of, switch, zeros
from snap_jax.parallel.stage_work import Hops, StageWork

Enter = Callable[[PyTree, PyTree], Array]
Body = Callable[[PyTree, Array], Array]
Leave = Callable[[PyTree, Array, PyTree], tuple[Array, PyTree]]
Inspect = Callable[[Boundary, Array], tuple[Array | float, PyTree]]


def report_nothing(boundary: Boundary, sent: Array) -> tuple[float, tuple]:
    """Add no loss and report nothing of what a stage sends."""
    return 0.0, ()


@dataclasses.dataclass(frozen=True)
class SameStages(StageWork):
    """Stages of one structure, whose stream has one shape. What a stage reports is (that of `leave`, of `inspect`).

    Attributes:
      enter: parameters and a microbatch -> what the first stage starts from.
      body: parameters and a stream -> the stream after this stage.
      leave: parameters, stream and microbatch -> the loss and a report; zeros on all stages but the last.
      boundary: parameters -> how the stream crosses to the next stage. The sender's side of it counts for what leaves
        this stage, the receiver's side for what arrives.
      stages: of the whole model.
      axis_name: the mesh axis of the pipeline.
      context: a microbatch -> what both sides of a boundary know of it, for a boundary that predicts.
      inspect: a boundary and what is about to leave by it -> a loss and a report; no collectives.
      observe: whether to count what is sent, as `Telemetry`.
    """

    enter: Enter
    body: Body
    leave: Leave
    boundary: Callable[[PyTree], Boundary]
    stages: int
    axis_name: str = STAGE
    context: Callable[[PyTree], Array] | None = None
    inspect: Inspect = report_nothing
    observe: bool = False

    def message(self, params, microbatch):
        """The stream as `Boundary.prepare` gives it."""
        if self.stages == 1:
            return ()
        return jax.eval_shape(lambda: self._prepared(params, self.enter(params, microbatch), microbatch))

    def compute(self, params, stage, microbatch, arriving):
        """`prepare(body(restore(arriving)))`; the first stage enters, the last one leaves."""
        last = stage == self.stages - 1

        def enter() -> Array:
            return self._varying(self.enter(params, microbatch))

        def restore() -> Array:
            return self.boundary(params).restore(arriving, self._known(microbatch))

        def leave() -> tuple[Array, PyTree]:
            return self._varying(self.leave(params, stream, microbatch))

        stream = self.body(params, enter() if self.stages == 1 else lax.cond(stage == 0, enter, restore))
        silent = zeros(jax.eval_shape(leave))
        loss, end = leave() if self.stages == 1 else lax.cond(last, leave, lambda: silent)
        # The last stage sends to nobody, and what others send must not grow because of it.
        sent = self._prepared(params, stream, microbatch)
        sent = jnp.where(last, jnp.zeros_like(sent), sent)
        more, notes = self._varying(self.inspect(self.boundary(params), sent))
        return sent, loss + jnp.where(last, 0.0, more), (end, notes)

    def connect(self, params, hops):
        """The codec of the sender, with its thresholds."""
        return self.boundary(params).handshake(self.axis_name, hops) if hops else None

    def send(self, params, links, sent, hops):
        """One coded `ppermute`."""
        boundary = self.boundary(params)
        if not hops:
            return () if self.stages == 1 else zeros(sent), observe(boundary.codec, sent) if self.observe else ()
        return _sent(boundary, sent, self.axis_name, hops, links, count=self.observe)

    def decoded(self, params, sent):
        """`codec.quantize(sent)`."""
        return _quantized(self.boundary(params).codec, sent)

    def send_back(self, params, cotangent, hops):
        """One `ppermute` against the hops, coded by `grad_codec`."""
        return _sent_back(self.boundary(params), cotangent, self.axis_name, hops)

    def _prepared(self, params: PyTree, stream: Array, microbatch: PyTree) -> Array:
        return self._varying(self.boundary(params).prepare(stream, self._known(microbatch)))

    def _known(self, microbatch: PyTree) -> Array | None:
        return self.context(microbatch) if self.context else None

    def _varying(self, tree: PyTree) -> PyTree:
        return jax.tree.map(lambda a: as_varying(jnp.asarray(a), (self.axis_name,)), tree)


@dataclasses.dataclass(frozen=True)
class DifferentStages(StageWork):
    """Two or more stages, each of its own structure, whose stream has another shape after each of them.

    A message is one array per hop; a hop is a `ppermute` of that one pair. On other devices it moves nothing, though
    they code and decode zeros. A body may hold collectives over axes along which all devices are on one stage.

    Attributes:
      enter: as in `SameStages`; called on the first stage only.
      bodies: what each stage computes: parameters and a stream -> the stream after it.
      leave: as in `SameStages`.
      boundaries: parameters -> how the stream leaves each stage. Of boundary i the sender's side counts as it is on
        stage i, the receiver's side as it is on stage i + 1. The last one sends nothing.
      axis_name: the mesh axis of the pipeline.
      inspect: as in `SameStages`; its reports have one shape for all boundaries, unless kept apart.
      apart: whether each stage reports for every boundary but the last, in a list: zeros but for its own.
      observe: as in `SameStages`.
    """

    enter: Enter
    bodies: Sequence[Body]
    leave: Leave
    boundaries: Callable[[PyTree], Sequence[Boundary]]
    axis_name: str = STAGE
    inspect: Inspect = report_nothing
    apart: bool = False
    observe: bool = False

    @property
    def stages(self) -> int:
        """How many there are."""
        return len(self.bodies)

    def message(self, params, microbatch):
        """What leaves each stage but the last."""
        shapes, stream = [], jax.eval_shape(self.enter, params, microbatch)
        for body, boundary in zip(self.bodies[:-1], self.boundaries(params), strict=False):
            stream = jax.eval_shape(body, params, stream)
            shapes.append(jax.eval_shape(lambda x, b=boundary: self._varying(b.prepare(x)), stream))
        return shapes

    def compute(self, params, stage, microbatch, arriving):
        """A switch with one branch per stage."""

        def work(i: int) -> Callable[[], tuple[list[Array], Array, PyTree]]:
            return lambda: self._one(i, params, microbatch, arriving)

        return switch(stage, {scope_of(i): work(i) for i in range(self.stages)})

    def _one(self, i: int, params: PyTree, microbatch: PyTree, arriving: list[Array]) -> tuple[list, Array, PyTree]:
        boundaries, last = self.boundaries(params), i == self.stages - 1
        stream = self._through(i, params, microbatch, arriving)
        own = self._varying(boundaries[i].prepare(stream))
        own = jnp.zeros_like(own) if last else own
        more, notes = self._varying(self.inspect(boundaries[i], own))
        if self.apart:
            others = [jax.eval_shape(self.inspect, *each)[1] for each in zip(boundaries, arriving, strict=False)]
            notes = [notes if k == i else self._varying(zeros(other)) for k, other in enumerate(others)]
        sent = [own if k == i else zeros(a) for k, a in enumerate(arriving)]
        if last:
            loss, end = self._varying(self.leave(params, stream, microbatch))
            return sent, loss, (end, notes)
        loss, end = self._silent_end(params, microbatch, arriving)
        return sent, loss + more, (end, notes)

    def _through(self, i: int, params: PyTree, microbatch: PyTree, arriving: list[Array]) -> Array:
        """The stream after stage i."""
        start = self.boundaries(params)[i - 1].restore(arriving[i - 1]) if i else self.enter(params, microbatch)
        return self.bodies[i](params, start)

    def _silent_end(self, params: PyTree, microbatch: PyTree, arriving: list[Array]) -> tuple[Array, PyTree]:
        def end() -> tuple[Array, PyTree]:
            stream = self._through(self.stages - 1, params, microbatch, arriving)
            return self._varying(self.leave(params, stream, microbatch))

        return zeros(jax.eval_shape(end))

    def connect(self, params, hops):
        """The codec of each sender, with its thresholds."""
        boundaries = self.boundaries(params)
        return [boundaries[source].handshake(self.axis_name, [(source, target)]) for source, target in hops]

    def send(self, params, links, sent, hops):
        """One coded `ppermute` per hop."""
        arriving, seen = [], []
        for i, (boundary, x) in enumerate(zip(self.boundaries(params), sent, strict=False)):
            hop = (i, i + 1)
            if hop in hops:
                arrived, counts = _sent(boundary, x, self.axis_name, [hop], links[i], count=self.observe)
            else:
                arrived, counts = zeros(x), observe(boundary.codec, x) if self.observe else ()
            arriving.append(arrived)
            seen.append(counts)
        # The last stage counts the zeros of the last hop.
        own = jax.tree.map(lambda *each: lax.select_n(lax.axis_index(self.axis_name), *each), *seen, seen[-1])
        return arriving, own

    def decoded(self, params, sent):
        """`codec.quantize` of each."""
        boundaries = self.boundaries(params)
        return [_quantized(boundary.codec, x) for boundary, x in zip(boundaries, sent, strict=False)]

    def send_back(self, params, cotangent, hops):
        """One `ppermute` per hop, against it."""
        boundaries = self.boundaries(params)
        back = zeros(cotangent)
        for source, target in hops:
            back[source] = _sent_back(boundaries[source], cotangent[source], self.axis_name, [(source, target)])
        return back

    def _varying(self, tree: Any) -> Any:
        return jax.tree.map(lambda a: as_varying(jnp.asarray(a), (self.axis_name,)), tree)


def _sent(
    boundary: Boundary, x: Array, axis_name: str, hops: Hops, sender: Codec | None, *, count: bool
) -> tuple[Array, PyTree]:
    """What arrives, and the telemetry of what was sent; spikes are computed once."""
    arriving, sent = boundary.send(x, axis_name, hops, sender_codec=sender, return_sent=True)
    return arriving, observe(boundary.codec, x if sent is None else sent) if count else ()


def _quantized(codec: Codec | None, x: Array) -> Array:
    return x if codec is None else codec.quantize(x)


def _sent_back(boundary: Boundary, cotangent: Array, axis_name: str, hops: Hops) -> Array:
    back = [(target, source) for source, target in hops]
    # JAX names what it transposes so, and traffic tells the direction by the name.
    with jax.named_scope("transpose(boundary)"):
        return collectives.ppermute(cotangent, axis_name, back, codec=boundary.grad_codec)
