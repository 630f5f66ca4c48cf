"""Measure the speed of a pipeline over 4 emulated devices against one device, and what coding its messages costs.

Best possible: emulated devices share cores and an idle one computes nothing, so a perfect pipeline takes as long as
one device with the same microbatches. Devices of their own take (M + n - 1) / (M n) of that, for M microbatches and n
devices. Coding reads each element that is sent once and writes it once, so it takes at least as long as a copy.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P
from rich.console import Console
from rich.table import Table

from benchmarks.results import show
from benchmarks.timing import machine, take_turns
from snap_jax import training
from snap_jax.codecs.link_spec import as_codec
from snap_jax.parallel.mesh import auto_mesh, emulate_devices
from snap_jax.training.config import LanguageConfig

CONFIG = LanguageConfig(steps=1)
LINKS = ("fp32", "bf16", "int4", "count:3", "count:3+radix")
ROUNDS = 5


def main() -> None:
    emulate_devices(4)
    console = Console()
    console.print(f"[bold]Pipeline[/bold]: {machine()}")
    console.print(f"RWKV {CONFIG.layers} x {CONFIG.width}, {CONFIG.batch} x {CONFIG.seq_len} bytes per step\n")
    show(console, _steps())
    show(console, _codecs())


def _steps() -> Table:
    runs = {"one device": _step(1, "fp32")} | {f"4 devices, {link}": _step(4, link) for link in LINKS}
    times = take_turns(runs, ROUNDS)
    bytes_per_step = CONFIG.batch * CONFIG.seq_len
    table = Table("forward and backward", "bytes of text / s", "time / one device", "time / fp32 pipeline")
    for name, t in times.items():
        against_fp32 = "" if name == "one device" else t.over(times["4 devices, fp32"])
        table.add_row(name, f"{bytes_per_step / t.median:,.0f}", t.over(times["one device"]), against_fp32)
    slots = CONFIG.microbatches + 3
    apart = slots / (CONFIG.microbatches * 4)
    table.caption = f"best: 1.00 of one device here, where devices share cores; {apart:.2f} on devices that do not"
    return table


def _step(devices: int, link: str):
    prepared = training.prepare(dataclasses.replace(CONFIG, devices=devices, link=link))
    tokens = prepared.batch(0)
    step = jax.jit(prepared.task.loss_and_gradient).lower(prepared.params, tokens).compile()
    return lambda: step(prepared.params, tokens)


def _codecs() -> Table:
    """Measure encoding and decoding of all messages of one step, alone."""
    slots = CONFIG.microbatches + 3
    shape = (slots * CONFIG.batch // CONFIG.microbatches, CONFIG.seq_len, CONFIG.width)
    x = jax.random.normal(jax.random.key(0), (4, *shape))
    runs = {"copy": _on_devices(lambda x: x + 1, x)}
    for link in LINKS[1:]:
        codec = as_codec(link)
        assert codec is not None
        runs[link] = _on_devices(lambda x, c=codec: c.decode(c.encode(x), shape=x.shape, dtype=x.dtype), x)
    whole = _step(4, "fp32")
    times = take_turns(runs | {"fp32 step": whole}, ROUNDS)
    table = Table("encode + decode, all devices, one step", "time / copy", "share of the fp32 step")
    for name in runs:
        table.add_row(name, times[name].over(times["copy"]), times[name].over(times["fp32 step"]))
    return table


def _on_devices(function, x):
    run = jax.jit(jax.shard_map(function, mesh=auto_mesh({"stage": 4}), in_specs=P("stage"), out_specs=P("stage")))
    return lambda: run(jnp.asarray(x))


if __name__ == "__main__":
    main()
