"""Measure how fast `Rans` codes and decodes.

Expectations, for one element: coding takes about 30 operations that vectorize, a gather from a small table and a
scattered store of the word; decoding takes 15, a gather from a table of 4096 slots and a gather of the word. At two
vectors of eight per cycle and 3 GHz that is 1 ns, and 0.3 to 0.5 ns for each gather and the store: 2.5 ns together.
Memory moves 28 bytes, most of them in cache: 1 to 2 ns. Nothing depends on how many levels there are, but words do:
8 bits per element store four times as many as 2.

Processor time says what all cores together can do while each has devices of its own; the column of two devices measures
that.

Run: `python -m benchmarks.entropy_coding`
"""

import functools
import math
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec as P
from rich.console import Console
from rich.table import Table

import snap_jax as snap
from benchmarks.results import show
from benchmarks.timing import machine, take_turns
from snap_jax.parallel.mesh import emulate_devices

SHAPES = (2**20,), (2**14, 64), (64, 512)
LEVELS = {3: 0.5, 7: 1.0, 31: 4.0, 255: 30.0}  # and the standard deviation of the normal numbers that are rounded
FLOOR = 2.5e-9  # seconds per element
TARGETS = {7: 200, 255: 100}  # million elements per second
ROUNDS = 15


def main() -> None:
    emulate_devices(8)
    show(Console(width=140), table())


def table() -> Table:
    """Return how fast spikes are coded and decoded, in million elements per second; the best of some rounds."""
    rates = (f"{what}, M elements/s" for what in ("code", "decode", "both", "both, two devices"))
    columns = "bits per element", *rates, "processor time / floor", "target"
    made = Table("", *columns, title=f"Rans, best of {ROUNDS} rounds ({machine()})")
    for levels, width in LEVELS.items():
        for shape in SHAPES:
            made.add_row(f"{levels} levels, {' x '.join(f'{n:,}' for n in shape)}", *_row(levels, width, shape))
    return made


def _row(levels: int, width: float, shape: tuple[int, ...]) -> tuple[str, ...]:
    limit, size = levels // 2, math.prod(shape)
    symbols = range(-limit, limit + 1)
    drawn = np.round(width * np.random.default_rng(0).standard_normal((2, *shape)))
    spikes = jnp.asarray(np.clip(drawn, -limit, limit), jnp.int8)
    code = jax.jit(functools.partial(_code, symbols=symbols))
    decode = jax.jit(functools.partial(_decode, shape=shape, symbols=symbols))
    rung, payload = code(spikes[0])
    assert bool((decode(rung, payload) == spikes[0]).all())
    first, two = spikes[0], _on_two_devices(spikes, symbols)
    runs = {"code": lambda: code(first), "decode": lambda: decode(rung, payload), "two": two}
    wall = {name: min(times.rounds) for name, times in take_turns(runs, ROUNDS).items()}
    busy = {n: min(t.rounds) for n, t in take_turns(runs, ROUNDS, clock=time.process_time).items()}
    bits = 8 * snap.Rans().sizes(size, symbols)[int(rung)] / size
    rates = [size / seconds / 1e6 for seconds in (wall["code"], wall["decode"], wall["code"] + wall["decode"])]
    over_floor = (busy["code"] + busy["decode"]) / size / FLOOR
    rates.append(2 * size / wall["two"] / 1e6)
    return f"{bits:.2f}", *(f"{rate:.0f}" for rate in rates), f"{over_floor:.1f}", str(TARGETS.get(levels, ""))


def _code(spikes: jax.Array, symbols: range) -> tuple[jax.Array, jax.Array]:
    rung, draft = snap.Rans().draft(spikes, symbols)
    return rung, snap.Rans().write_draft(draft, symbols, rung)


def _decode(rung: jax.Array, payload: jax.Array, shape: tuple[int, ...], symbols: range) -> jax.Array:
    return snap.Rans().read(payload, shape, symbols, rung)


def _on_two_devices(spikes: jax.Array, symbols: range) -> Callable[[], jax.Array]:
    """Return what codes and decodes half of the spikes on each of two devices."""
    mesh = jax.make_mesh((2,), ("x",), axis_types=(jax.sharding.AxisType.Auto,), devices=jax.devices()[:2])

    def both(spikes: jax.Array) -> jax.Array:
        rung, payload = _code(spikes[0], symbols)
        return _decode(rung, payload, spikes.shape[1:], symbols)[None]

    run = jax.jit(jax.shard_map(both, mesh=mesh, in_specs=P("x"), out_specs=P("x")))
    placed = jax.device_put(spikes, jax.sharding.NamedSharding(mesh, P("x")))
    return lambda: run(placed)


if __name__ == "__main__":
    main()
