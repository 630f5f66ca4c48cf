"""Measure how long a coded collective takes to trace, lower and compile, and what many equal ones take.

Expectations: XLA:CPU compiles a kernel in about 12 ms, so time follows the number of kernels. A wire of several sizes
has a program for each kind of payload and a collective for each part. Equal collectives share their kernels, yet XLA
inlines calls, so its passes see each of them.

Processor time of all threads: on two cores, waiting takes less. Run: `python -m benchmarks.compile_time`
"""

import functools
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P
from rich.console import Console
from rich.table import Table

import snap_jax as snap
from benchmarks.results import show
from benchmarks.timing import Times, machine
from snap_jax.parallel.mesh import auto_mesh, emulate_devices

SHAPE = (64, 512)  # on each of 8 devices
ROUNDS = 3
SITES = 24  # 96 of a ladder take a minute and a half
CODECS = {
    "lax": None,
    "Packed": snap.Codec(snap.Count(3), snap.Packed()),
    "Ladder": snap.Codec(snap.Count(3), snap.Ladder()),
    "Rans": snap.Codec(snap.Count(3), snap.Rans()),
}
COLLECTIVES: dict[str, Callable] = {
    "all_gather": functools.partial(snap.all_gather, tiled=True),
    "ppermute": functools.partial(snap.ppermute, perm=[(0, 1), (1, 0)]),
    "psum_scatter": functools.partial(snap.psum_scatter, tiled=True),
    "psum": snap.psum,
}


def main() -> None:
    emulate_devices(8)
    console = Console(width=110)
    console.print(f"[bold]Compile time[/bold]: {machine()}; median (quartiles) of {ROUNDS} rounds\n")
    show(console, _one_site())
    show(console, _many_sites())


def _one_site() -> Table:
    table = Table("one call, 64 x 512 floats on each of 8 devices", "s", "time / Packed", "target")
    for name in COLLECTIVES:
        times = {codec: _times(name, codec) for codec in CODECS}
        for codec, each in times.items():
            ratio = each.over(times["Packed"]) if codec in ("Ladder", "Rans") else ""
            table.add_row(f"{name}, {codec}", str(each), ratio, "5" if ratio else "")
    return table


def _many_sites() -> Table:
    table = Table(f"{SITES} equal ppermutes", "s", "time / that of one", "target")
    for codec in ("lax", "Packed", "Ladder"):
        one, many = _times("ppermute", codec), _times("ppermute", codec, sites=SITES, rounds=1)
        table.add_row(codec, f"{many.median:.2f}", f"{many.median / one.median:.1f}", "3.0")
    return table


def _times(collective: str, codec: str, sites: int = 1, rounds: int = ROUNDS) -> Times:
    return Times(tuple(_seconds(COLLECTIVES[collective], CODECS[codec], sites) for _ in range(rounds)))


def _seconds(collective: Callable, codec: snap.Codec | None, sites: int) -> float:
    """Return the processor seconds of a program that sends `sites` times, tracing included."""

    def program(x: jax.Array) -> jax.Array:
        for _ in range(sites):
            x = jnp.sin(collective(x, "x", codec=codec))
        return x

    mesh = auto_mesh({"x": 8})
    out = P() if collective is snap.psum else P("x")
    jax.clear_caches()
    began = time.process_time()
    jax.jit(jax.shard_map(program, mesh=mesh, in_specs=P("x"), out_specs=out)).lower(
        jax.ShapeDtypeStruct((8 * SHAPE[0], SHAPE[1]), jnp.float32)
    ).compile()
    return time.process_time() - began


if __name__ == "__main__":
    main()
