import dataclasses
import math

import jax
import jax.numpy as jnp
from jax import lax

from snap_jax.wires import Packed, Wire
from snap_jax.wires.symbols import to_codes, to_spikes


@dataclasses.dataclass(frozen=True)
class RunLength(Wire):
    """Two bytes per run of equal symbols, its code and its length; `Packed` where runs are too many.

    >>> from snap_jax.wires import pack
    >>> pack(RunLength(), jnp.zeros(1000, jnp.int8), range(-1, 2)).size  # 4 runs of up to 256, in room for 8
    16
    """

    longest: int = 256

    def sizes(self, size, symbols):
        (packed,) = Packed().sizes(size, symbols)
        runs = [2 * math.ceil(size / self.longest) * 2**i for i in range(1, 5)] if len(symbols) <= 256 else []
        return (*(nbytes for nbytes in runs if nbytes < packed), packed)

    def rung(self, spikes, symbols):
        sizes = jnp.asarray(self.sizes(spikes.size, symbols)[:-1], jnp.int32)
        return jnp.sum(2 * self._starts(spikes.reshape(-1)).sum() > sizes).astype(jnp.uint8)

    def write(self, spikes, symbols, rung):
        *_, most = sizes = self.sizes(spikes.size, symbols)
        packed = Packed().write(spikes, symbols, 0)
        runs = self._write_runs(to_codes(spikes, symbols), most) if len(sizes) > 1 else packed
        return jnp.where(rung == len(sizes) - 1, packed, runs)

    def read(self, payload, shape, symbols, rung):
        *_, most = sizes = self.sizes(math.prod(shape), symbols)
        packed = Packed().read(payload, shape, symbols, 0)
        if len(sizes) == 1:
            return packed
        pairs = payload[: 2 * (most // 2)].reshape(-1, 2)
        room = jnp.asarray(sizes, jnp.int32)[rung] // 2
        lengths = jnp.where(jnp.arange(len(pairs)) < room, pairs[:, 1].astype(jnp.int32) + 1, 0)
        codes = jnp.repeat(pairs[:, 0], lengths, total_repeat_length=math.prod(shape))
        return jnp.where(rung == len(sizes) - 1, packed, to_spikes(codes, symbols).reshape(shape))

    def _starts(self, flat):
        """Whether each element begins a run: a new symbol, or the last run is as long as can be."""
        change = jnp.concatenate([jnp.ones(min(1, flat.size), bool), flat[1:] != flat[:-1]])
        place = jnp.arange(flat.size)
        return change | ((place - lax.cummax(jnp.where(change, place, 0))) % self.longest == 0)

    def _write_runs(self, codes, most: int) -> jax.Array:
        starts = self._starts(codes)
        number = jnp.cumsum(starts) - 1
        lengths = jnp.zeros(most // 2, jnp.int32).at[number].add(1, mode="drop")
        symbols = jnp.zeros(most // 2, codes.dtype).at[number].set(codes, mode="drop")
        pairs = jnp.stack([symbols, (lengths - 1).astype(jnp.uint8)], -1)
        return jnp.pad(pairs.reshape(-1), (0, most % 2))
