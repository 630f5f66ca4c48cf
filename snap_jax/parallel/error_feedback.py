"""Membranes: what has not been sent yet is kept, and sent later.

Law of a stream: `heard == collective(sent)` at every tick, bit for bit where data only moves: what receivers hold of me
is what I know they hold, `sent_t = sent_{t-1} + quantize(x_t - sent_{t-1})`. So errors never add up.
Law of gradients: what was sent in all is the sum of all gradients but for the last membrane,
`sum_t sent_t = mean over devices of (sum_t g_t - membrane_T)`.

State is explicit: pytrees that vary over the mesh axis, to be carried through `lax.scan` and written to checkpoints.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Float, PyTree

from snap_jax._compat import as_varying, pytree, varying_axes
from snap_jax.codecs.codec import Codec
from snap_jax.collectives import pmean
from snap_jax.collectives.scale_exchange import AxisName, axes_of
from snap_jax.encodings import saturate
from snap_jax.errors import UsageError

T = TypeVar("T")
Collective = Callable[..., T]
"""A linear collective of this library with all but two arguments bound: called as `collective(x, codec=codec)`."""


@pytree
@dataclasses.dataclass(frozen=True)
class Stream:
    """The two ends of a closed-loop sigma-delta link, as one device holds them; f32.

    Attributes:
      sent: what this device has sent so far: the receivers' reconstruction of its tensor. Shapes of the tensor.
      heard: its own reconstruction of what others sent, `collective(sent)`. Shapes of what the collective returns.
    """

    sent: PyTree
    heard: PyTree

    @classmethod
    def init(cls, collective: Collective, like: PyTree) -> "Stream":
        """The stream before anything was sent: zeros on both ends; `like` has the shapes and types of the tensor."""
        return cls(_silence(like), _silence(jax.eval_shape(lambda x: collective(x, codec=None), like)))


def send(collective: Collective[T], stream: Stream, x: T, *, codec: Codec | None) -> tuple[T, Stream]:
    """One tick of a stream: spikes of what receivers do not know yet cross, and are added to what they know.

    `d = x - sent`, `sent' = sent + quantize(d)`, `heard' = heard + collective(d, codec=codec)`; returns
    `heard'` and the next stream. While no spike saturates, `|x - sent'|` is at most half a threshold (dead zone 0.5),
    whatever came before (O'Connor and Welling 2017, arXiv:1611.02024).

    `codec=None` sends a key frame: `x` itself, as `lax` would; both ends start from there. A NaN or an infinity comes
    out as NaN at every receiver, at this tick and at all later ones, until a key frame or a new `Stream.init`, on all
    devices at the same tick. Where tensors are summed (`psum`), the law holds to float rounding, once a tick.

    Args:
      collective: e.g. `functools.partial(snap.ppermute, axis_name="die", perm=perm)`.
      stream: as `Stream.init` or the tick before gave it.
      x: pytree of float arrays, on each device its own.
      codec: how to send the difference; may change from tick to tick.

    Returns:
      What `collective(x)` would be but for the error of one tick, in the dtypes of `x`; and the next stream.

    >>> from snap_jax.encodings import Ternary
    >>> here = lambda x, codec: codec.quantize(x) if codec else x  # one device talks to itself
    >>> codec, stream = Codec(Ternary(threshold=0.5)), Stream.init(here, jnp.zeros(2))
    >>> for _ in range(3):
    ...     y, stream = send(here, stream, jnp.array([1.3, -0.2]), codec=codec)
    ...     print(y.tolist())
    [0.5, 0.0]
    [1.0, 0.0]
    [1.5, 0.0]
    """
    if codec is None:
        y = collective(x, codec=None)
        return y, Stream(_wide(x), _wide(y))
    missing = jax.tree.map(jnp.subtract, _wide(x), stream.sent)
    sent = jax.tree.map(lambda s, d: s + codec.quantize(d), stream.sent, missing)
    heard = jax.tree.map(jnp.add, stream.heard, collective(missing, codec=codec))
    return jax.tree.map(lambda h, x: saturate(h, x.dtype), heard, x), Stream(sent, heard)


Sizes = Callable[[Array, AxisName], Array]
"""`u` and mesh axes -> what a threshold counts in: a scalar, or one number for each place of the last axis."""


class ErrorFeedbackState(NamedTuple):
    """The state of `error_feedback`.

    Attributes:
      membrane: for each parameter what this device has not sent yet, f32, with a new first axis for the device: inside
        `shard_map` of size 1, outside, with `ErrorFeedbackState(P(axis))` as spec, one row a device.
    """

    membrane: PyTree


def error_feedback(
    codec: Codec, axis_name: AxisName, *, relative: bool = True, sizes: Sizes | None = None
) -> optax.GradientTransformation:
    """The mean of gradients over a mesh axis, sent as spikes; each device's membrane keeps what its spikes left over.

    `u = g + membrane`, `update = pmean(quantize(u))`, `membrane' = u - quantize(u)` (Seide et al. 2014; Karimireddy et
    al. 2019, arXiv:1901.09847). A gradient that is NaN or infinite on any device gives NaN on all, and leaves all
    membranes of this parameter as they were: `optax.apply_if_finite` behind it skips that step alike everywhere.

    `init` and `update` belong inside `shard_map`; gradients must still vary over the axis, so take them with respect to
    `lax.pcast(params, axis_name, to="varying")`, or JAX has summed them before.

    Args:
      codec: its spikes must add up (`encoding.summable`).
      axis_name: mesh axis, or a tuple of them.
      relative: the codec's threshold counts in `pmean(mean|u|)` of each parameter (its scale crosses too, 4 bytes each
        way a parameter), so it need not be tuned. For a Gaussian `u`, the best is 1.53 for `Ternary` and 0.82 for
        `Count(3)` (Max 1960: 1.224 and 0.651 standard deviations). Without, it is taken as it is.
      sizes: what it counts in instead, where one array holds several parameters.

    Raises:
      UsageError: if spikes of the codec do not add up, gradients do not vary over the axis, or there is no such axis.

    >>> from snap_jax.encodings import Int
    >>> error_feedback(Codec(Int(bits=4)), "data")
    Traceback (most recent call last):
    snap_jax.errors.UsageError: error_feedback: spikes of Int do not add up: use Ternary or Count
    """
    if not codec.encoding.summable or codec.encoding.threshold is None:
        raise UsageError(
            f"error_feedback: spikes of {type(codec.encoding).__name__} do not add up: use Ternary or Count"
        )

    def init(params: PyTree) -> ErrorFeedbackState:
        _require_axis(axis_name)
        return ErrorFeedbackState(jax.tree.map(lambda p: _silent(p, axes_of(axis_name))[None], params))

    def update(updates: PyTree, state: Any, params: PyTree | None = None) -> tuple[PyTree, ErrorFeedbackState]:
        _require_axis(axis_name)

        def one(g: Array, membrane: Array) -> tuple[Array, Array]:
            _require_varying(g, axis_name)
            u = g.astype(jnp.float32) + membrane[0]
            scaled = _in_sizes(codec, (sizes or mean_size)(u, axis_name)) if relative else codec
            mean = pmean(u, axis_name, codec=scaled)
            kept = jnp.where(jnp.isfinite(mean).all(), u - scaled.quantize(u), membrane[0])
            return saturate(mean, g.dtype), kept[None]

        pairs = jax.tree.map(one, updates, state.membrane)
        means, kept = jax.tree.transpose(jax.tree.structure(updates), jax.tree.structure((0, 0)), pairs)
        return means, ErrorFeedbackState(kept)

    return optax.GradientTransformation(init, update)


def mean_size(u: Float[Array, "..."], axis_name: AxisName) -> Float[Array, ""]:
    """The mean of |u| over all devices; one scalar crosses, the same for all."""
    return lax.pmean(jnp.abs(u).sum() / max(u.size, 1), axis_name)


def _in_sizes(codec: Codec, size: Array) -> Codec:
    threshold = jnp.maximum(codec.encoding.threshold * size, jnp.finfo(jnp.float32).tiny)
    return dataclasses.replace(codec, encoding=codec.encoding.with_threshold(threshold))


def _require_axis(axis_name: AxisName) -> None:
    try:
        lax.axis_size(axis_name)
    except NameError as error:
        raise UsageError(f"error_feedback: no mesh axis {axis_name!r} here: call it inside shard_map") from error


def _require_varying(gradient: Array, axis_name: AxisName) -> None:
    if missing := set(axes_of(axis_name)) - varying_axes(gradient):
        raise UsageError(
            f"error_feedback: a gradient of shape {gradient.shape} is the same on all devices of {sorted(missing)}, so "
            f"JAX has summed it already: take it with respect to lax.pcast(params, {axis_name!r}, to='varying')"
        )


def _silence(like: PyTree) -> PyTree:
    return jax.tree.map(lambda a: _silent(a, ()), like)


def _silent(like: Array | jax.ShapeDtypeStruct, axes: tuple[str, ...]) -> Array:
    """Zeros of its shape, f32, varying over the same mesh axes and those given."""
    return as_varying(jnp.zeros(like.shape, jnp.float32), (*axes, *sorted(varying_axes(like) - set(axes))))


def _wide(tree: PyTree) -> PyTree:
    return jax.tree.map(lambda a: a.astype(jnp.float32), tree)
