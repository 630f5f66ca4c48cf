"""A closed-loop link: only the change since the last message is sent.

Invariant: `received == collective(sent)` at every step, bit for bit where data only moves. The sender knows what the
receivers hold, `sent_t = sent_{t-1} + quantize(x_t - sent_{t-1})`, so errors never add up.

State is explicit: pytrees that vary over the mesh axis, which `lax.scan` carries and checkpoints hold.
"""

import dataclasses
from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from snap_jax._compat import as_varying, pytree, varying_axes
from snap_jax.codecs.codec import Codec
from snap_jax.encodings import saturate

T = TypeVar("T")
Collective = Callable[..., T]
"""A linear collective of this library with all but two arguments bound: called as `collective(x, codec=codec)`."""


@pytree
@dataclasses.dataclass(frozen=True)
class DeltaState:
    """The two ends of a closed-loop sigma-delta link, as one device holds them; f32.

    Attributes:
      sent: what this device has sent so far: the receivers' reconstruction of its tensor. Shapes of the tensor.
      received: its own reconstruction of what others sent, `collective(sent)`. Shapes of what the collective returns.
    """

    sent: PyTree
    received: PyTree

    @classmethod
    def init(cls, collective: Collective, like: PyTree) -> "DeltaState":
        """Return the state before anything was sent, zeros; `like` has the shapes and types of the tensor."""
        return cls(_zeros(like), _zeros(jax.eval_shape(lambda x: collective(x, codec=None), like)))


def send(collective: Collective[T], stream: DeltaState, x: T, *, codec: Codec | None) -> tuple[T, DeltaState]:
    """Send one step: spikes of what the receivers do not know yet are sent, and added to what they know.

    `d = x - sent`, `sent' = sent + quantize(d)`, `received' = received + collective(d, codec=codec)`; returns
    `received'` and the next state. While no spike saturates, `|x - sent'|` is at most half a threshold (dead
    zone 0.5), whatever came before (O'Connor and Welling 2017, arXiv:1611.02024).

    `codec=None` sends a key frame: `x` itself, as `lax` would; both ends start from there. A NaN or an infinity comes
    out as NaN at every receiver, at this step and all later ones, until a key frame or a new `DeltaState.init` on all
    devices at the same step. Where tensors are summed (`psum`), the invariant holds to float rounding, once per step.

    Args:
      collective: e.g. `functools.partial(snap.ppermute, axis_name="stage", perm=perm)`.
      stream: the state that `DeltaState.init` or the last step returned.
      x: pytree of float arrays, on each device its own.
      codec: how to send the difference; may change from step to step.

    Returns:
      What `collective(x)` would be, except for the error of one step, in the dtypes of `x`; and the next state.

    >>> from snap_jax.encodings import Ternary
    >>> here = lambda x, codec: codec.quantize(x) if codec else x  # one device talks to itself
    >>> codec, stream = Codec(Ternary(threshold=0.5)), DeltaState.init(here, jnp.zeros(2))
    >>> for _ in range(3):
    ...     y, stream = send(here, stream, jnp.array([1.3, -0.2]), codec=codec)
    ...     print(y.tolist())
    [0.5, 0.0]
    [1.0, 0.0]
    [1.5, 0.0]
    """
    if codec is None:
        y = collective(x, codec=None)
        return y, DeltaState(_wide(x), _wide(y))
    missing = jax.tree.map(jnp.subtract, _wide(x), stream.sent)
    sent = jax.tree.map(lambda s, d: s + codec.quantize(d), stream.sent, missing)
    received = jax.tree.map(jnp.add, stream.received, collective(missing, codec=codec))
    return jax.tree.map(lambda h, x: saturate(h, x.dtype), received, x), DeltaState(sent, received)


def _zeros(like: PyTree) -> PyTree:
    """Zeros of these shapes, f32, varying over the same mesh axes."""
    return jax.tree.map(lambda a: as_varying(jnp.zeros(a.shape, jnp.float32), tuple(sorted(varying_axes(a)))), like)


def _wide(tree: PyTree) -> PyTree:
    return jax.tree.map(lambda a: a.astype(jnp.float32), tree)
