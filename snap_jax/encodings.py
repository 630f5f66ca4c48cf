"""Encodings: float -> integer spikes -> float, local, lossy and differentiable.

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
from jax import tree_util
from jaxtyping import Array
from jaxtyping import Float as Floats
from jaxtyping import Integer as Integers

from snap_jax.errors import UsageError
from snap_jax.surrogates import StraightThrough, Surrogate, round_clip, staircase
from snap_jax.wires import spike_dtype

Threshold = float | Array
# Fields that hold one are typed Any: JAX puts placeholders there when it takes codecs apart.
Side = tuple[Array, ...]
"""What must travel beside the spikes: f32 arrays, empty where both sides share the threshold."""


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
    @abc.abstractmethod
    def side_shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shapes of what must travel beside the spikes."""

    @abc.abstractmethod
    def fire(self, x: Floats[Array, "..."]) -> tuple[Array, Side]:
        """The spikes, and what must travel beside them."""

    @abc.abstractmethod
    def value(self, spikes: Integers[Array, "..."], side: Side = ()) -> Floats[Array, "..."]:
        """The floats (f32) that spikes stand for."""

    @abc.abstractmethod
    def reconstruct(self, x: Floats[Array, "..."]) -> Floats[Array, "..."]:
        """`value` of what `fire` gives, as one differentiable function."""

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
        return jnp.where(jnp.all(jnp.isfinite(x)), y, jnp.asarray(jnp.nan, x.dtype))

    def with_threshold(self, threshold: Threshold) -> "Encoding":
        """The same encoding with another threshold; only for one that has a threshold."""
        return dataclasses.replace(self, threshold=threshold)  # pyright: ignore[reportArgumentType]


class _Shared(Encoding):
    """An encoding whose threshold both sides hold: nothing travels beside the spikes, and they add up."""

    @property
    def summable(self):
        """Yes: the threshold is shared."""
        return True

    @property
    def side_shapes(self):
        """Nothing."""
        return ()

    def reconstruct(self, x):
        """`value` of `fire`."""
        return self.value(*self.fire(x))


def saturate(y: Floats[Array, "..."], dtype: jnp.dtype) -> Floats[Array, "..."]:
    """`y` as `dtype`; what is too large becomes the largest finite value instead of infinity.

    >>> saturate(jnp.array(1e6), jnp.dtype("float16")).item()
    65504.0
    """
    return jnp.clip(y, float(jnp.finfo(dtype).min), float(jnp.finfo(dtype).max)).astype(dtype)


def _in_thresholds(x, threshold: Threshold):
    # XLA turns a division by a broadcast number into a product with its inverse in some programs and not in others:
    # written out, it is the same in all. Inverses of numbers from 2^126 up are denormal and count as zero: scaled.
    t = jnp.asarray(threshold, jnp.float32)
    scale = jnp.where(t > 2.0**100, 2.0**-64, 1.0)
    return (x.astype(jnp.float32) * scale) * (1 / (t * scale))


_encoding = functools.partial(tree_util.register_dataclass, data_fields=["threshold"])


@functools.partial(_encoding, meta_fields=["dead_zone", "surrogate"])
@dataclasses.dataclass(frozen=True)
class Ternary(_Shared):
    """One signed spike: `s = sign(x) 1(|x| >= dead_zone * threshold)`, `y = s * threshold`.

    Attributes:
      threshold: the value of one spike.
      dead_zone: where it fires, in thresholds; 0.5 rounds to nearest, 1 is integrate-and-fire.
      surrogate: the pseudo-derivative of the spike.

    >>> Ternary(threshold=2.0).quantize(jnp.array([-3.0, 0.9, 1.0])).tolist()
    [-2.0, 0.0, 2.0]
    """

    threshold: Any = 1.0
    dead_zone: float = 0.5
    surrogate: Surrogate = StraightThrough()

    @property
    def symbols(self):
        """{-1, 0, 1}."""
        return range(-1, 2)

    def fire(self, x):
        """Spikes as floats with the surrogate's gradient; nothing beside them."""
        return staircase(_in_thresholds(x, self.threshold), 1, self.dead_zone, True, self.surrogate), ()

    def value(self, spikes, side=()):
        """`spikes * threshold`."""
        return spikes.astype(jnp.float32) * jnp.asarray(self.threshold, jnp.float32)


@functools.partial(_encoding, meta_fields=["limit", "dead_zone", "surrogate"])
@dataclasses.dataclass(frozen=True)
class Count(_Shared):
    """Graded spikes: `s = sign(x) min(floor(|x| / threshold + 1 - dead_zone), limit)`, `y = s * threshold`.

    Attributes:
      limit: most spikes one value can fire.
      threshold: the value of one spike.
      dead_zone: where the first one fires, in thresholds; 0.5 rounds to nearest.
      surrogate: the pseudo-derivative of each spike.

    >>> Count(limit=3, threshold=0.5).quantize(jnp.array([-9.0, 0.2, 0.6])).tolist()
    [-1.5, 0.0, 0.5]
    """

    limit: int
    threshold: Any = 1.0
    dead_zone: float = 0.5
    surrogate: Surrogate = StraightThrough()

    def __post_init__(self):
        if self.limit < 1:
            raise UsageError(f"Count: limit={self.limit} fires never: use a limit of 1 or more")

    @property
    def symbols(self):
        """{-limit, ..., limit}."""
        return range(-self.limit, self.limit + 1)

    def fire(self, x):
        """Spikes as floats with the surrogate's gradient; nothing beside them."""
        u = _in_thresholds(x, self.threshold)
        return staircase(u, self.limit, self.dead_zone, True, self.surrogate), ()

    def value(self, spikes, side=()):
        """`spikes * threshold`."""
        return spikes.astype(jnp.float32) * jnp.asarray(self.threshold, jnp.float32)


@functools.partial(_encoding, meta_fields=["ticks", "leak", "signed", "start", "surrogate"])
@dataclasses.dataclass(frozen=True)
class Rate(_Shared):
    """A leaky integrate-and-fire neuron driven by `x` for `ticks` ticks; its count is the spike, its rate the value.

    Each tick `V <- leak V + x`; at `V >= threshold` it fires and `V <- V - threshold`; `y = s * threshold / ticks`.
    Without leak the count is `clip(floor(ticks x / threshold + start), 0, ticks)`, no simulation needed.

    Attributes:
      ticks: how long it runs, and the most it can fire.
      threshold: the membrane potential that fires; also the value of a neuron that fires at every tick.
      leak: what is left of the membrane after one tick, in (0, 1].
      signed: whether negative input fires negative spikes (a twin neuron); without, it stays silent.
      start: the membrane at the first tick, in thresholds; 0.5 rounds to nearest.
      surrogate: the pseudo-derivative of each spike.

    >>> Rate(ticks=4).quantize(jnp.array([0.3, 0.9, -2.0])).tolist()
    [0.25, 1.0, -1.0]
    >>> Rate(ticks=4, leak=0.5).spikes(jnp.array([0.3, 0.9])).tolist()
    [0, 3]
    """

    ticks: int
    threshold: Any = 1.0
    leak: float = 1.0
    signed: bool = True
    start: float = 0.5
    surrogate: Surrogate = StraightThrough()

    def __post_init__(self):
        if self.ticks < 1 or not 0 < self.leak <= 1:
            raise UsageError(f"Rate: ticks={self.ticks}, leak={self.leak}: use ticks >= 1 and 0 < leak <= 1")

    @property
    def symbols(self):
        """{-ticks, ..., ticks}, from 0 when unsigned."""
        return range(-self.ticks if self.signed else 0, self.ticks + 1)

    def fire(self, x):
        """Spikes as floats with the surrogate's gradient; nothing beside them."""
        u = _in_thresholds(x, self.threshold)
        count = staircase(u * self.ticks, self.ticks, 1 - self.start, self.signed, self.surrogate)
        if self.leak == 1:
            return count, ()
        # The leaky count, with the slope of the leak-free one.
        return count + jax.lax.stop_gradient(simulate(u, self) - count), ()

    def value(self, spikes, side=()):
        """`spikes * threshold / ticks`."""
        return spikes.astype(jnp.float32) * (jnp.asarray(self.threshold, jnp.float32) / self.ticks)


def simulate(u: Floats[Array, "..."], rate: Rate) -> Floats[Array, "..."]:
    """The spikes of `rate`, tick by tick, for an input current `u` in thresholds.

    >>> simulate(jnp.array([0.3, 0.9]), Rate(ticks=4)).tolist()
    [1.0, 4.0]
    """
    drive = jnp.abs(u) if rate.signed else u

    def tick(_, state):
        membrane, count = state
        membrane = rate.leak * membrane + drive
        fired = (membrane >= 1).astype(u.dtype)
        return membrane - fired, count + fired

    silent = jnp.zeros_like(drive)
    _, count = jax.lax.fori_loop(0, rate.ticks, tick, (silent + rate.start, silent))
    return jnp.where(u < 0, 0 - count, count) if rate.signed else count


@functools.partial(tree_util.register_dataclass, data_fields=[], meta_fields=["dtype"])
@dataclasses.dataclass(frozen=True)
class Float(Encoding):
    """The baseline that keeps floats: rounds to `dtype` and sends its bits; the gradient is the identity.

    Attributes:
      dtype: a float dtype of 8, 16 or 32 bits; what is too large for it saturates.

    >>> Float("bfloat16").quantize(jnp.array([1.001])).tolist()
    [1.0]
    """

    dtype: str = "bfloat16"

    def __post_init__(self):
        if not jnp.issubdtype(jnp.dtype(self.dtype), jnp.floating) or jnp.finfo(self.dtype).bits not in (
            8,
            16,
            32,
        ):
            raise UsageError(f"Float: dtype={self.dtype} is no float of 8, 16 or 32 bits: use 'bfloat16'")

    @property
    def symbols(self):
        """Every bit pattern."""
        return range(2 ** jnp.finfo(self.dtype).bits)

    @property
    def summable(self):
        """No: bit patterns do not add."""
        return False

    @property
    def side_shapes(self):
        """Nothing."""
        return ()

    def fire(self, x):
        """The bits of the rounded value."""
        unsigned = f"uint{jnp.finfo(self.dtype).bits}"
        return jax.lax.bitcast_convert_type(saturate(x, jnp.dtype(self.dtype)), unsigned), ()

    def value(self, spikes, side=()):
        """The float with these bits."""
        unsigned = f"uint{jnp.finfo(self.dtype).bits}"
        return jax.lax.bitcast_convert_type(spikes.astype(unsigned), jnp.dtype(self.dtype)).astype(jnp.float32)

    def reconstruct(self, x):
        """`x` rounded to `dtype`."""
        return _round_to(x, self.dtype)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def _round_to(x, dtype: str):
    return saturate(x, jnp.dtype(dtype)).astype(jnp.float32)


@_round_to.defjvp
def _round_to_jvp(dtype, primals, tangents):
    return _round_to(primals[0], dtype), tangents[0].astype(jnp.float32)


@functools.partial(_encoding, meta_fields=["bits"])
@dataclasses.dataclass(frozen=True)
class Integer(Encoding):
    """The baseline integer: `s = clip(round(x / step), -2^(bits-1), 2^(bits-1) - 1)`, `y = s * step`.

    Attributes:
      bits: 2 to 8.
      threshold: the step, learned like a threshold (LSQ, Esser et al. 2020); `None` takes `max|x| / (2^(bits-1) - 1)`
        of the tensor at hand, which then travels beside the integers in 4 bytes.

    >>> Integer(bits=4, threshold=0.5).quantize(jnp.array([0.7, 9.0, -9.0])).tolist()
    [0.5, 3.5, -4.0]
    >>> Integer(bits=8).quantize(jnp.array([-1.0, 1.0])).tolist()
    [-1.0, 1.0]
    """

    bits: int
    threshold: Any = None

    def __post_init__(self):
        if not 2 <= self.bits <= 8:
            raise UsageError(f"Integer: bits={self.bits}: use 2 to 8, or Float() for more")

    @property
    def symbols(self):
        """Two's complement of `bits` bits."""
        return range(-(2 ** (self.bits - 1)), 2 ** (self.bits - 1))

    @property
    def summable(self):
        """Only with a shared step."""
        return self.threshold is not None

    @property
    def side_shapes(self):
        """The step, where it was taken from the data."""
        return ((),) if self.threshold is None else ()

    def fire(self, x):
        """Integers as floats with the straight-through gradient, and the step where it was taken from the data."""
        side: Side = () if self.threshold is not None else (self._absmax_step(x),)
        u = _in_thresholds(x, self._step(side))
        return round_clip(u, self.symbols.start, self.symbols.stop - 1), side

    def value(self, spikes, side=()):
        """`spikes * step`."""
        return spikes.astype(jnp.float32) * jnp.asarray(self._step(side), jnp.float32)

    def reconstruct(self, x):
        """`value` of `fire`."""
        return self.value(*self.fire(x))

    def _step(self, side: Side) -> Threshold:
        return side[0] if self.threshold is None else self.threshold

    def _absmax_step(self, x):
        largest = jnp.max(jnp.abs(jax.lax.stop_gradient(x).astype(jnp.float32)), initial=0)
        return jnp.maximum(largest * (1 / (self.symbols.stop - 1)), jnp.finfo(jnp.float32).tiny)
