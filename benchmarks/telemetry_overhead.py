"""Measure what telemetry adds to a training step, and what its histogram costs per element.

The spikes are computed for the wire anyway, and a histogram reads each once more. A layer spends hundreds of
multiply-adds on each element, so telemetry should take at most 2 % of a step.
"""

import dataclasses
import time

import jax
import jax.numpy as jnp
from rich.console import Console
from rich.table import Table

from benchmarks.results import show
from benchmarks.timing import machine, take_turns
from snap_jax import training
from snap_jax.boundary import telemetry
from snap_jax.codecs.link_spec import as_codec
from snap_jax.encodings import Count
from snap_jax.parallel.mesh import emulate_devices
from snap_jax.training.config import LanguageConfig

CONFIG = LanguageConfig(steps=1)
LINKS = ("count:3", "int8", "count:3+ladder")
ROUNDS = 9
SIZES = (2**14, 2**20)
LIMITS = (1, 3, 127)


def main() -> None:
    emulate_devices(CONFIG.devices)
    console = Console()
    console.print(f"[bold]Telemetry[/bold]: {machine()}")
    show(console, _steps())
    show(console, _histograms())


def _steps() -> Table:
    """Measure steps in wall-clock time and in processor time, which other processes disturb less."""
    table = Table("forward and backward", "s per step", "observed / not observed", "the same, processor time")
    for link in LINKS:
        prepared = training.prepare(dataclasses.replace(CONFIG, link=link))
        args = prepared.params, prepared.batch(0)
        functions = prepared.task.loss_and_gradient, prepared.task.observed_loss_and_gradient
        plain, observed = (jax.jit(f).lower(*args).compile() for f in functions)
        runs = {"plain": lambda s=plain, a=args: s(*a), "observed": lambda s=observed, a=args: s(*a)}
        wall, processor = (take_turns(runs, ROUNDS, clock=clock) for clock in (time.perf_counter, time.process_time))
        ratios = [times["observed"].over(times["plain"], digits=3) for times in (wall, processor)]
        table.add_row(link, f"{wall['plain'].median:.2f}", *ratios)
    table.caption = f"RWKV {CONFIG.layers} x {CONFIG.width} on {CONFIG.devices} devices, {ROUNDS} rounds"
    return table


def _histograms() -> Table:
    table = Table("spikes to bytes and histogram", "scatter / encode", "one comparison per symbol / encode")
    for size in SIZES:
        for limit in LIMITS:
            codec = as_codec(f"count:{limit}")
            assert codec is not None
            x = jax.random.normal(jax.random.key(0), (size,)) * limit
            runs = {
                "encode": jax.jit(codec.encode),
                "scatter": jax.jit(lambda x, c=codec: (c.encode(x), telemetry.observe(c, x))),
                "compare": jax.jit(lambda x, c=codec: (c.encode(x), _by_comparison(c.encoding, x))),
            }
            times = take_turns({name: lambda f=f, x=x: f(x) for name, f in runs.items()}, ROUNDS)
            ratios = [times[name].over(times["encode"]) for name in ("scatter", "compare")]
            table.add_row(f"{size:,} elements of {codec.encoding.levels} levels", *ratios)
    return table


def _by_comparison(encoding: Count, x: jax.Array) -> jax.Array:
    spikes = encoding.spikes(x)
    return jnp.stack([jnp.sum(spikes == s) for s in encoding.symbols])


if __name__ == "__main__":
    main()
