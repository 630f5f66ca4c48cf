"""What every encoding is: floats to integer spikes and back.

Invariant: `quantize(x) == value(fire(x))` bit for bit, in the dtype of `x`, with a surrogate gradient for `x` and for
every learnable array. A NaN or an infinity anywhere in `x` makes all of the result NaN.

To add an encoding, write a frozen dataclass with `symbols`, `encode` and `decode`. The decorator `@encoding` (or
`@learnable`) is required: it makes the class a pytree. If `encode` returns side arrays, `side_specs(shape)` must give
their shapes and dtypes, so that the payload has room for them. This is a complete one-bit encoding; its spikes add up
over devices because the threshold is shared:

    @encoding
    @dataclasses.dataclass(frozen=True)
    class Sign(Shared):
        threshold: Any = 1.0

        @property
        def symbols(self):
            return range(-1, 2, 2)

        def encode(self, x):
            u = in_thresholds(x, self.threshold)
            return straight_through(jnp.where(u < 0, -1.0, 1.0), u), ()

        def decode(self, values, side=()):
            return values.astype(jnp.float32) * self.threshold
"""

import abc
import dataclasses
import functools
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool
from jaxtyping import Float as Floats
from jaxtyping import Integer as Integers

from snap_jax._compat import pytree
from snap_jax.encodings.meeting_arrays import in_rank
from snap_jax.errors import UsageError
from snap_jax.wires import Shape, spike_dtype
from snap_jax.wires.bitstring import any_set

Threshold = float | Array
# Fields that hold one are typed Any: JAX puts placeholders there when it takes codecs apart.
Side = tuple[Array, ...]
"""Arrays that travel with the spikes, such as a step taken from the data. Empty if the receiver needs none."""
Specs = tuple[jax.ShapeDtypeStruct, ...]
MOST = float(jnp.finfo(jnp.float32).max)
TINY = float(jnp.finfo(jnp.float32).tiny)  # the smallest normal f32 number


@pytree
@dataclasses.dataclass(frozen=True)
class Spikes:
    """What an encoding makes of one array. A pytree.

    Attributes:
      values: the spikes, integers of the narrowest dtype that holds every symbol.
      side: arrays that travel with them.
      finite: whether every element of the input was finite.
    """

    values: Any
    side: Any = ()
    finite: Any = True


class Encoding(abc.ABC):
    """How floats become integer spikes, and spikes floats.

    An encoding is a frozen dataclass and a pytree: `encoding` (or `learnable`) names the fields that hold arrays. Those
    are learned where the encoding sits in a `Boundary`.

    Attributes:
      threshold: a float, or an array that broadcasts against the input; `None` if the scale is taken from the data.
      positive: names of the learnable fields that must stay positive.
      bit_patterns: whether symbols are bit patterns of floats, so that counting them says nothing.
      baseline: whether this is a baseline of numeric formats rather than a neuron model.
      relative: whether the threshold is in units of a scale that is taken from the data.
    """

    threshold: Any = None
    positive: ClassVar[tuple[str, ...]] = ("threshold",)
    bit_patterns: ClassVar[bool] = False
    baseline: ClassVar[bool] = False
    relative: ClassVar[bool] = False

    @property
    @abc.abstractmethod
    def symbols(self) -> range:
        """The integers a spike can be; any step."""

    @abc.abstractmethod
    def encode(self, x: Floats[Array, "..."]) -> tuple[Array, Side]:
        """Return the spikes as floats, with their surrogate gradient, and the side arrays."""

    @abc.abstractmethod
    def decode(self, values: Array, side: Side = ()) -> Floats[Array, "..."]:
        """Return the f32 numbers that spikes stand for; `side` as `expand_side` returns it."""

    @property
    def summable(self) -> bool:
        """Whether spikes of several devices may be added before they are decoded: the threshold is shared."""
        return False

    @property
    def density(self) -> float:
        """The largest share of elements that can be non-zero: at most `slots_for(density, n)` of n."""
        return 1.0

    def side_specs(self, shape: Shape) -> Specs:
        """Return shapes and dtypes of the side arrays of a tensor of `shape`, as `encode` returns them."""
        return ()

    def expand_side(self, side: Side, shape: Shape) -> Side:
        """Return the side arrays of a tensor of `shape` as f32 arrays that broadcast against it."""
        return side

    def splits_side(self, shape: Shape, dimension: int, part: Shape) -> bool:
        """Return whether parts of shape `part`, cut along `dimension` of `shape`, need only their part of the side."""
        return False

    def fire(self, x: Floats[Array, "..."]) -> Spikes:
        """Return the spikes of `x`. No gradient goes through them; see `quantize`.

        Raises:
          UsageError: for spike counts that float32 does not hold exactly.
        """
        _check_counts(self)
        values, side = self.encode(x)
        return Spikes(values.astype(spike_dtype(self.symbols)), side, all_finite(x))

    def value(self, spikes: Spikes) -> Floats[Array, "..."]:
        """Return the f32 numbers that `spikes` stand for; NaN if the input was not finite."""
        y = self.decode(spikes.values, self.expand_side(spikes.side, spikes.values.shape))
        return or_nan(spikes.finite, y)

    def reconstruct(self, x: Floats[Array, "..."]) -> Floats[Array, "..."]:
        """Return `decode(encode(x))` in f32, differentiable in `x` and in every learnable array."""
        values, side = self.encode(x)
        return self.decode(values, self.expand_side(side, x.shape))

    def quantize(self, x: Floats[Array, "..."]) -> Floats[Array, "..."]:
        """Return what the receiver will see of `x`, in its dtype; NaN if anything in `x` is not finite.

        Raises:
          UsageError: for spike counts that float32 does not hold exactly.
        """
        _check_counts(self)
        return or_nan(all_finite(x), saturate(self.reconstruct(x), x.dtype))

    def spikes(self, x: Floats[Array, "..."]) -> Integers[Array, "..."]:
        """Return the integer spikes of `x`."""
        return self.fire(x).values

    @property
    def levels(self) -> int:
        """How many integer values a spike can have."""
        return len(self.symbols)

    def with_threshold(self, threshold: Threshold) -> "Encoding":
        """Return the same encoding with another threshold; only for one that has a threshold."""
        return dataclasses.replace(self, threshold=threshold)  # pyright: ignore[reportArgumentType]

    def part(self, cut: Callable[[Array], Array]) -> "Encoding":
        """Return the encoding for a part of a tensor; `cut` takes that part of what broadcasts against the tensor."""
        if self.threshold is None or not jnp.ndim(self.threshold):
            return self
        return self.with_threshold(cut(self.threshold))

    def lowered(self, limit: int) -> "Encoding":
        """Return the same encoding with at most `limit` spikes per element.

        Raises:
          UsageError: if the encoding has no such limit.
        """
        raise UsageError(f"lowered: {type(self).__name__} has no limit to lower to {limit}: use Count")

    @property
    def uniform_limit(self) -> int | None:
        """The limit L if the value is `threshold * clip(round(x / threshold), -L, L)`; `None` for other encodings."""
        return None

    def normalized(self, x: Floats[Array, "..."]) -> Floats[Array, "..."]:
        """Return `x` in units of the scale that is taken from the data, if any: what a threshold is compared with."""
        return x

    def initial_threshold(self, sample: Floats[Array, "n channels"]) -> Array | None:
        """Return a threshold per channel for a sample that is `normalized`; `None` if its bits are to decide."""
        return None


class Shared(Encoding):
    """An encoding whose threshold both sides hold: no side arrays, and spikes of several devices add up."""

    @property
    def summable(self):
        """Yes: the threshold is shared."""
        return True


def _check_counts(code: Encoding) -> None:
    most = max(abs(code.symbols[0]), abs(code.symbols[-1]))
    if most > 2**24 and not code.bit_patterns:
        raise UsageError(
            f"{type(code).__name__}: spike counts up to {most} are past 2^24, where float32 leaves out integers: "
            "use a lower limit"
        )


def all_finite(x: Floats[Array, "..."]) -> Bool[Array, ""]:
    """Return whether there is neither a NaN nor an infinity in `x`."""
    return ~any_set(~jnp.isfinite(x))


@functools.partial(jax.jit, inline=True)  # eagerly, `jax_debug_nans` would stop at the NaN that is not taken
def or_nan(keep: Bool[Array, "..."], y: Floats[Array, "..."]) -> Floats[Array, "..."]:
    """Return `y` where `keep` holds, NaN elsewhere.

    >>> or_nan(jnp.array([True, False]), jnp.array([1.0, 2.0])).tolist()
    [1.0, nan]
    """
    return jnp.where(keep, y, jnp.nan)


def saturate(y: Floats[Array, "..."], dtype: jnp.dtype) -> Floats[Array, "..."]:
    """Return `y` as `dtype`; what is too large becomes the largest finite value instead of infinity.

    >>> saturate(jnp.array(1e6), jnp.dtype("float16")).item()
    65504.0
    """
    return in_range(y, dtype).astype(dtype)


def in_range(y: Floats[Array, "..."], dtype: jnp.dtype) -> Floats[Array, "..."]:
    """Return `y`, in its own dtype, with what is too large for `dtype` at the largest finite value.

    >>> in_range(jnp.array(1e6), jnp.dtype("float16")).item()
    65504.0
    """
    most = min(float(jnp.finfo(dtype).max), float(jnp.finfo(y.dtype).max))
    return jnp.clip(y, -most, most)


def as_f32(threshold: Threshold) -> Floats[Array, "..."]:
    """Return a threshold as an f32 array.

    Raises:
      UsageError: for a Python number that is not positive, or that float32 does not hold.
    """
    if isinstance(threshold, int | float) and not 0 < threshold <= MOST:
        what = "positive" if not threshold > 0 else "a finite float32"
        raise UsageError(f"threshold={threshold} is not {what}: use a threshold above 0, such as 1.0")
    return jnp.asarray(threshold, jnp.float32)


def in_thresholds(x: Floats[Array, "..."], threshold: Threshold) -> Floats[Array, "..."]:
    """Return `x / threshold` in f32, the same bits in every program; thresholds next to 0 count as 2^-126.

    Raises:
      UsageError: for a Python number that is not positive.

    >>> in_thresholds(jnp.array([3.0]), 2.0).tolist()
    [1.5]
    """
    t = in_rank(as_f32(threshold), x)
    t = jnp.where(jnp.abs(t) < TINY, TINY, t)
    # XLA turns a division by a broadcast number into a product with its inverse in some programs and not in others:
    # written out, it is the same in all. Inverses of numbers from 2^126 up are subnormal and count as zero: both
    # factors are scaled, and clipping keeps XLA from merging the scale into a constant inverse.
    large, x = jnp.abs(t) > 2.0**100, x.astype(jnp.float32)
    scaled = jnp.where(large, in_range(x * 2.0**-64, jnp.dtype("float32")), x)
    return scaled * (1 / (t * jnp.where(large, 2.0**-64, 1.0)))


def learnable(*names: str) -> Callable:
    """Return a decorator that makes a dataclass a pytree whose leaves are these fields; the others are static."""
    return functools.partial(pytree, data=names)


encoding = learnable("threshold")
"""Decorator: a dataclass that is a pytree whose one leaf is the threshold, if it has one."""
