"""Boundary and pipeline: where a tensor leaves the chip.

Law: a model with boundaries computes the same on one chip, where a boundary only quantises, as over many, where it
sends (laws 2 and 6).
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array, Float, PyTree

from snap_jax import collectives
from snap_jax._jax import as_varying, varying_axes
from snap_jax.codecs import Codec
from snap_jax.telemetry import Telemetry, observe
from snap_jax.thresholds import handshake


class Boundary(nnx.Module):
    """The place in a model where a tensor leaves the chip; owns the learnable threshold, one per channel.

    `threshold = exp(log_threshold)`: always positive, and a step of the optimizer changes it by a ratio.

    Args:
      codec: what to send instead of floats; `None` sends floats. The threshold it comes with is where learning starts.
      features: size of the last axis of what crosses.
      grad_codec: how the cotangent crosses back; `None` sends it as it is.

    >>> from snap_jax.encodings import Ternary
    >>> boundary = Boundary(Codec(Ternary(threshold=0.5)), features=3)
    >>> boundary(jnp.array([0.7, -0.1, -2.0])).tolist()
    [0.5, 0.0, -0.5]
    """

    def __init__(self, codec: Codec | None, features: int, *, grad_codec: Codec | None = None):
        self._template = nnx.static(codec)
        self.grad_codec = nnx.static(grad_codec)
        if codec is not None and codec.encoding.threshold is not None:
            start = jnp.broadcast_to(jnp.asarray(codec.encoding.threshold, jnp.float32), (features,))
            self.log_threshold = nnx.Param(jnp.log(start))

    @property
    def codec(self) -> Codec | None:
        """The codec with the threshold as learned so far."""
        if self._template is None or self._template.encoding.threshold is None:
            return self._template
        encoding = self._template.encoding.with_threshold(jnp.exp(self.log_threshold[...]))
        return dataclasses.replace(self._template, encoding=encoding)

    def __call__(self, x: Float[Array, "... features"]) -> Float[Array, "... features"]:
        """What the other side will see; on one chip this is the boundary."""
        return x if self.codec is None else self.codec.quantize(x)

    def all_gather(self, x: Array, axis_name: str, *, axis: int = 0, tiled: bool = False) -> Array:
        """Coded `all_gather`."""
        with jax.named_scope("boundary"):
            return collectives.all_gather(
                x, axis_name, axis=axis, tiled=tiled, codec=self.codec, grad_codec=self.grad_codec
            )

    def handshake(self, axis_name: str, perm: Sequence[tuple[int, int]]) -> Codec | None:
        """The codec of who sends to this device along `perm`, for the `sender` of many `ppermute`s."""
        with jax.named_scope("boundary"):
            return handshake(self.codec, axis_name, perm)

    def ppermute(
        self, x: Array, axis_name: str, perm: Sequence[tuple[int, int]], *, sender: Codec | None = None
    ) -> Array:
        """Coded `ppermute`."""
        with jax.named_scope("boundary"):
            return collectives.ppermute(x, axis_name, perm, codec=self.codec, grad_codec=self.grad_codec, sender=sender)

    def all_to_all(self, x: Array, axis_name: str, split_axis: int, concat_axis: int, *, tiled: bool = False) -> Array:
        """Coded `all_to_all`."""
        with jax.named_scope("boundary"):
            return collectives.all_to_all(
                x, axis_name, split_axis, concat_axis, tiled=tiled, codec=self.codec, grad_codec=self.grad_codec
            )

    def observe(self, x: Array, axis_name: str | None = None) -> Telemetry:
        """What is to know of `x` as it crosses: `telemetry.observe` with the codec as learned so far."""
        return observe(self.codec, x, axis_name)

    def psum(self, x: Array, axis_name: str, *, recode: Codec | None = None) -> Array:
        """Coded `psum`."""
        with jax.named_scope("boundary"):
            return collectives.psum(x, axis_name, codec=self.codec, recode=recode)

    def pmean(self, x: Array, axis_name: str, *, recode: Codec | None = None) -> Array:
        """Coded `pmean`."""
        with jax.named_scope("boundary"):
            return collectives.pmean(x, axis_name, codec=self.codec, recode=recode)

    def psum_scatter(self, x: Array, axis_name: str, *, scatter_dimension: int = 0, tiled: bool = False) -> Array:
        """Coded `psum_scatter`."""
        with jax.named_scope("boundary"):
            return collectives.psum_scatter(
                x,
                axis_name,
                scatter_dimension=scatter_dimension,
                tiled=tiled,
                codec=self.codec,
                grad_codec=self.grad_codec,
            )


def pipeline(
    enter: Callable[[PyTree], Array],
    body: Callable[[Array], Array],
    leave: Callable[[Array, PyTree], PyTree],
    microbatches: PyTree,
    axis_name: str,
    boundary: Boundary,
    *,
    watch: Callable[[Array], PyTree] | None = None,
) -> tuple[PyTree, PyTree]:
    """GPipe inside `shard_map`: die i works on microbatch t - i at tick t and sends what it made to die i + 1.

    `ticks = M + n - 1` for M microbatches on n dies. A die that has no microbatch computes nothing; it still sends,
    since a collective is the same program on every die: `(n - 1) * ticks` messages cross in a run.

    Args:
      enter: a microbatch -> what the first die starts from.
      body: what every die computes; same shape in and out.
      leave: output of the last die and the microbatch -> a pytree of floats.
      microbatches: pytree whose arrays have the M microbatches first; the same on all dies.
      axis_name: the mesh axis of the dies.
      boundary: how the stream crosses to the next die; each die its own.
      watch: what to note of each outgoing stream, as a pytree of numbers. All dies call it at every tick, so it may
        hold collectives; what it notes of a die that had no microbatch does not count.

    Returns:
      What `leave` gave, stacked over microbatches (zeros on all dies but the last), and the sum of what `watch`
      noted on this die.
    """
    dies, die = lax.axis_size(axis_name), lax.axis_index(axis_name)
    count = jax.tree.leaves(microbatches)[0].shape[0]
    watch = watch or (lambda _: ())

    def at(t: Array) -> PyTree:
        return jax.tree.map(lambda a: as_varying(a, (axis_name,))[jnp.clip(t - die, 0, count - 1)], microbatches)

    def work(t: Array, arriving: Array) -> tuple[Array, PyTree]:
        microbatch = at(t)
        start = lax.cond(die == 0, lambda: varying(enter(microbatch)), lambda: arriving)
        stream = body(start)
        end = lax.cond(
            die == dies - 1,
            lambda: varying(leave(stream, microbatch)),
            lambda: silent(leave, stream, microbatch),
        )
        return stream, end

    def varying(tree: PyTree) -> PyTree:
        return jax.tree.map(lambda a: as_varying(jnp.asarray(a), (axis_name,)), tree)

    def silent(function: Callable, *args: Any) -> PyTree:
        return varying(jax.tree.map(zeros, jax.eval_shape(function, *args)))

    def zeros(like: jax.ShapeDtypeStruct) -> Array:
        return as_varying(jnp.zeros(like.shape, like.dtype), tuple(sorted(varying_axes(like))))

    def tick(arriving: Array, t: Array) -> tuple[Array, PyTree]:
        busy = (t >= die) & (t - die < count)
        stream, end = lax.cond(busy, work, lambda *args: silent(work, *args), t, arriving)
        note = jax.tree.map(lambda n: jnp.where(busy, n, jnp.zeros_like(n)), watch(lax.stop_gradient(stream)))
        return hand_on(stream), (end, note)

    onward = [(i, i + 1) for i in range(dies - 1)]
    sender = boundary.handshake(axis_name, onward) if onward else None

    def hand_on(stream: Array) -> Array:
        return boundary.ppermute(stream, axis_name, onward, sender=sender) if onward else jnp.zeros_like(stream)

    first = silent(enter, jax.tree.map(lambda a: a[0], microbatches))
    _, (ends, notes) = lax.scan(tick, first, jnp.arange(count + dies - 1))
    return jax.tree.map(lambda e: e[dies - 1 :], ends), jax.tree.map(lambda n: n.sum(0), notes)
