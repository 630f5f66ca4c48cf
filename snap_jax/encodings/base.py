"""What every encoding is.

Law: `quantize(x) == value(spikes(x))` bit for bit, with a surrogate gradient for `x` and for the threshold; and a NaN
or an infinity anywhere in `x` makes all of it NaN (law 5), since a spike cannot say what went wrong where.

`threshold` is a float or an array that broadcasts against the last axis; `None` means: taken from the data.
"""

import abc
import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool
from jaxtyping import Float as Floats
from jaxtyping import Integer as Integers

from snap_jax._compat import pytree
from snap_jax.wires import Shape, spike_dtype
from snap_jax.wires.bitstring import any_set

Threshold = float | Array
# Fields that hold one are typed Any: JAX puts placeholders there when it takes codecs apart.
Side = tuple[Array, ...]
"""What must travel beside the spikes: arrays, empty where both sides share the threshold."""
Specs = tuple[jax.ShapeDtypeStruct, ...]


class Encoding(abc.ABC):
    """How floats become spikes."""

    threshold: Any = None  # a Threshold; None where there is none, or it is taken from the data

    @property
    @abc.abstractmethod
    def symbols(self) -> range:
        """The integers a spike can be."""

    @property
    @abc.abstractmethod
    def summable(self) -> bool:
        """Whether spikes of several devices may be added before they are decoded: one threshold, shared by all."""

    @property
    def density(self) -> float:
        """The largest share of the elements that can fire: at most `slots_for(density, n)` of n."""
        return 1.0

    def beside(self, shape: Shape) -> Specs:
        """Shapes and dtypes of what must travel beside the spikes of a tensor of `shape`; nothing, by default."""
        return ()

    def spread(self, side: Side, shape: Shape) -> Side:
        """What came beside the spikes of a tensor of `shape`, as f32 arrays that broadcast against it."""
        return side

    def side_parts(self, shape: Shape, dimension: int, part: Shape) -> bool:
        """Whether parts of shape `part`, cut along `dimension` of `shape`, need the side cut alike, not all of it."""
        return False

    @abc.abstractmethod
    def fire(self, x: Floats[Array, "..."]) -> tuple[Array, Side]:
        """The spikes, and what must travel beside them."""

    @abc.abstractmethod
    def value(self, spikes: Integers[Array, "..."], side: Side = ()) -> Floats[Array, "..."]:
        """The floats (f32) that spikes stand for; `side` as `spread` gives it."""

    def reconstruct(self, x: Floats[Array, "..."]) -> Floats[Array, "..."]:
        """`value` of what `fire` gives, as one differentiable function."""
        spikes, side = self.fire(x)
        return self.value(spikes, self.spread(side, x.shape))

    @property
    def levels(self) -> int:
        """How many integer values a spike can have."""
        return len(self.symbols)

    def spikes(self, x: Floats[Array, "..."]) -> Integers[Array, "..."]:
        """The integer spikes of `x`."""
        return self.fire(x)[0].astype(spike_dtype(self.symbols))

    def quantize(self, x: Floats[Array, "..."]) -> Floats[Array, "..."]:
        """What the other side will see of `x`: same shape and dtype; NaN if anything in `x` is not finite."""
        y = saturate(self.reconstruct(x), x.dtype)
        return jnp.where(all_finite(x), y, jnp.asarray(jnp.nan, x.dtype))

    def with_threshold(self, threshold: Threshold) -> "Encoding":
        """The same encoding with another threshold; only for one that has a threshold."""
        return dataclasses.replace(self, threshold=threshold)  # pyright: ignore[reportArgumentType]


class Shared(Encoding):
    """An encoding whose threshold both sides hold: nothing travels beside the spikes, and they add up."""

    @property
    def summable(self):
        """Yes: the threshold is shared."""
        return True


def all_finite(x: Floats[Array, "..."]) -> Bool[Array, ""]:
    """Whether there is neither NaN nor infinity in `x`."""
    return ~any_set(~jnp.isfinite(x))


def saturate(y: Floats[Array, "..."], dtype: jnp.dtype) -> Floats[Array, "..."]:
    """`y` as `dtype`; what is too large becomes the largest finite value instead of infinity.

    >>> saturate(jnp.array(1e6), jnp.dtype("float16")).item()
    65504.0
    """
    return jnp.clip(y, float(jnp.finfo(dtype).min), float(jnp.finfo(dtype).max)).astype(dtype)


def in_thresholds(x: Floats[Array, "..."], threshold: Threshold) -> Floats[Array, "..."]:
    """`x / threshold` in f32, the same in every program.

    >>> in_thresholds(jnp.array([3.0]), 2.0).tolist()
    [1.5]
    """
    # XLA turns a division by a broadcast number into a product with its inverse in some programs and not in others:
    # written out, it is the same in all. Inverses of numbers from 2^126 up are denormal and count as zero: scaled.
    t = jnp.asarray(threshold, jnp.float32)
    scale = jnp.where(t > 2.0**100, 2.0**-64, 1.0)
    return (x.astype(jnp.float32) * scale) * (1 / (t * scale))


encoding = functools.partial(pytree, data=("threshold",))
"""Decorator: a dataclass that is a pytree whose one leaf is the threshold, where it has one."""
