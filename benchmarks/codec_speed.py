"""Measure how fast codecs are, as ratios within one run.

Expectations: encoding reads each float once and writes a few bits, so it should cost as much as `jnp.sum`. `Events`
finds set bits from words and popcounts and reads 1/32 of what `jnp.nonzero` scans. A coded all-gather writes as many
decoded floats as a plain one and reads a sixteenth. On one machine nothing else is saved.

Run: `python -m benchmarks.codec_speed`
"""

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
from benchmarks.timing import Times, machine, take_turns
from snap_jax.parallel.mesh import auto_mesh, emulate_devices
from snap_jax.wires import Wire, bitstring, pack, unpack
from snap_jax.wires.symbols import to_values

SIZE = 2**22
SYMBOLS = range(-1, 2)
ROUNDS = 7


def main() -> None:
    emulate_devices(8)
    console = Console(width=110)
    console.print(f"[bold]Codecs[/bold]: {machine()}; median ratio (quartiles) of {ROUNDS} rounds\n")
    for table in (_encode(), _events(), _wires(), _gather()):
        show(console, table)


def _compiled(function: Callable, *args: jax.Array) -> Callable[[], object]:
    program = jax.jit(function).lower(*args).compile()
    return lambda: program(*args)


def _encode() -> Table:
    """Compare 1 and 2 bits per element with a plain read of the same array."""
    x = jax.random.normal(jax.random.key(0), (SIZE,))
    one = snap.Codec(snap.Rate(1, signed=False), snap.Packed())
    two = snap.Codec(snap.Ternary(), snap.Packed())
    runs = {"jnp.sum": jnp.sum, "1 bit": one.encode, "2 bits": two.encode, "Ladder": _laddered}
    times = take_turns({name: _compiled(run, x) for name, run in runs.items()}, ROUNDS)
    table = Table("encode of 2^22 f32", "rate / rate of jnp.sum", "target", "GB/s")
    for name, target in (("jnp.sum", ""), ("1 bit", "0.70"), ("2 bits", "0.70"), ("Ladder", "")):
        table.add_row(name, times["jnp.sum"].over(times[name]), target, _rate(times[name]))
    return table


def _laddered(x: jax.Array) -> jax.Array:
    codec = snap.Codec(snap.Ternary(4.0), snap.Ladder())
    return codec.encode(x, codec.draft(codec.spikes(x))[0])


def _events() -> Table:
    """Compare encoding and decoding with the same payload made by `jnp.nonzero`."""
    table = Table("Events, 2^22 elements", "time with jnp.nonzero / time", "target", "ms")
    for density, target in ((0.01, "10"), (0.05, "5")):
        spikes, wire = _spikes(density), snap.Events(density * 1.02)
        payload = pack(wire, spikes, SYMBOLS)
        assert bool((_nonzero_pack(wire, spikes) == payload).all())
        assert bool((_nonzero_unpack(wire, payload) == spikes).all())
        runs = {
            "ours": _both(
                lambda s, _, w=wire: pack(w, s, SYMBOLS),
                lambda p, w=wire: unpack(w, p, (SIZE,), SYMBOLS),
                spikes,
                payload,
            ),
            "nonzero": _both(
                lambda s, _, w=wire: _nonzero_pack(w, s), lambda p, w=wire: _nonzero_unpack(w, p), spikes, payload
            ),
        }
        times = take_turns(runs, 5)
        row = f"encode + decode at {density:.0%}", times["nonzero"].over(times["ours"]), target
        table.add_row(*row, f"{1e3 * times['ours'].median:.0f}")
    return table


def _both(pack: Callable, unpack: Callable, spikes: jax.Array, payload: jax.Array) -> Callable[[], object]:
    first, second = _compiled(lambda s: pack(s, SYMBOLS), spikes), _compiled(unpack, payload)
    return lambda: (first(), second())


def _nonzero_pack(wire: snap.Events, spikes: jax.Array) -> jax.Array:
    slots, low = wire.setting(SIZE)
    address = jnp.nonzero(spikes, size=slots, fill_value=SIZE)[0]
    number, live = jnp.arange(slots), address < SIZE
    body = jnp.zeros(wire.sizes(SIZE, SYMBOLS)[-1] // 4 + 2, jnp.uint32)
    record = (address & (2**low - 1)).astype(jnp.uint32) | to_values(spikes[address], SYMBOLS).astype(jnp.uint32) << low
    upper = slots + SIZE // 2**low
    for offset, field in (
        ((address >> low) + number, jnp.ones(slots, jnp.uint32)),
        (upper + number * (low + 1), record),
    ):
        body = bitstring.put(body, (jnp.where(live, offset, 32 * body.size), field))
    return bitstring.to_bytes(body)[: wire.sizes(SIZE, SYMBOLS)[-1]]


def _nonzero_unpack(wire: snap.Events, payload: jax.Array) -> jax.Array:
    slots, low = wire.setting(SIZE)
    upper = slots + SIZE // 2**low
    set_bits = jnp.unpackbits(payload[: upper // 8 + 1], count=upper, bitorder="little")
    found, number = jnp.nonzero(set_bits, size=slots, fill_value=upper + SIZE)[0], jnp.arange(slots)
    record = bitstring.take(bitstring.to_words(payload), upper + number * (low + 1), jnp.uint32(2 ** (low + 1) - 1))
    address = jnp.where(found < upper, (found - number) << low | (record & (2**low - 1)).astype(jnp.int32), SIZE)
    return jnp.zeros(SIZE, jnp.int8).at[address].set(2 * (record >> low).astype(jnp.int8) - 1, mode="drop")


def _spikes(density: float) -> jax.Array:
    rng = np.random.default_rng(0)
    return jnp.asarray(np.where(rng.random(SIZE) < density, rng.choice([-1, 1], SIZE), 0).astype(np.int8))


def _wires() -> Table:
    """Measure packing and unpacking of every wire, in units of a copy of the spikes."""
    spikes, table = _spikes(0.05), Table("wire, 2^22 int8 spikes, 5 %", "pack / copy", "unpack / copy")
    wires: list[Wire] = [snap.Packed(), snap.Packed(radix=True), snap.Bitmap(), snap.Events(0.052), snap.Rans()]
    runs: dict[str, Callable[[], object]] = {"copy": _compiled(lambda s: s + 1, spikes)}
    for wire in wires:
        payload, rung = jax.jit(_pack, static_argnums=1)(spikes, wire)
        runs[f"{wire} pack"] = _compiled(lambda s, w=wire: _pack(s, w), spikes)
        runs[f"{wire} unpack"] = _compiled(lambda p, r, w=wire: w.read(p, (SIZE,), SYMBOLS, r), payload, rung)
    times = take_turns(runs, 5)
    for wire in wires:
        row = (times[f"{wire} {way}"].over(times["copy"]) for way in ("pack", "unpack"))
        table.add_row(str(wire), *row)
    return table


def _pack(spikes: jax.Array, wire: Wire) -> tuple[jax.Array, jax.Array]:
    rung = wire.rung(spikes, SYMBOLS)
    return wire.write(spikes, SYMBOLS, rung), rung


def _gather() -> Table:
    """Compare all-gathers on 8 emulated devices; they share cores, so coding saves only memory traffic."""
    table = Table("all_gather on 8 emulated devices", "processor time / float32", "target", "bytes / float32")
    devices = auto_mesh({"x": 8})
    for size in (2**20, 2**21):
        x = jax.random.normal(jax.random.key(1), (8 * size,))
        codecs = {"float32": None, "2 bits": snap.Codec(snap.Ternary(), snap.Packed())}
        codecs["Ladder, 1 %"] = snap.Codec(snap.Ternary(5.15), snap.Ladder())
        runs = {name: _compiled(_gathered(devices, codec), x) for name, codec in codecs.items()}
        times = take_turns(runs, ROUNDS, clock=time.process_time)
        for name in list(codecs)[1:]:
            share = int(codecs[name].sent_bytes(x[:size])) / (4 * size)
            row = f"{name}, 2^{size.bit_length() - 1} per device", times[name].over(times["float32"])
            table.add_row(*row, "1.30" if "Ladder" in name else "1.00", f"{share:.4f}")
    return table


def _gathered(devices: jax.sharding.Mesh, codec: snap.Codec | None) -> Callable[[jax.Array], jax.Array]:
    def gather(x: jax.Array) -> jax.Array:
        return snap.all_gather(x, "x", codec=codec)

    return jax.shard_map(gather, mesh=devices, in_specs=P("x"), out_specs=P("x"))


def _rate(times: Times) -> str:
    return f"{4 * SIZE / times.median / 1e9:.1f}"


if __name__ == "__main__":
    main()
