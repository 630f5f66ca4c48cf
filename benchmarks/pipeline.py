"""The pipeline: tokens a second over 4 emulated dies against one device, and what coding the stream costs.

Floors. All dies share the cores, and an idle die computes nothing, so a perfect pipeline takes as long as one device
given the same microbatches: ratio 1. On real dies, which do not share, it takes (M + n - 1) / (M n) of that. Coding
must read each element that crosses once and write it once each way; its floor is a copy of the stream, as often.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P
from rich.console import Console
from rich.table import Table

from benchmarks.timing import machine, take_turns
from snap_jax import training
from snap_jax.codecs.link_spec import as_codec
from snap_jax.parallel.mesh import auto_mesh, emulate_devices
from snap_jax.training.config import LanguageConfig

CONFIG = LanguageConfig(steps=1)
LINKS = ("fp32", "bf16", "int4", "count:3", "count:3+radix")
ROUNDS = 9


def main() -> None:
    emulate_devices(4)
    console = Console()
    console.print(f"[bold]Pipeline[/bold]: {machine()}")
    console.print(f"RWKV {CONFIG.layers} x {CONFIG.width}, {CONFIG.batch} x {CONFIG.seq_len} bytes a step\n")
    console.print(_steps())
    console.print(_codecs())


def _steps() -> Table:
    runs = {"one device": _step(1, "fp32")} | {f"4 dies, {link}": _step(4, link) for link in LINKS}
    times = take_turns(runs, ROUNDS)
    bytes_a_step = CONFIG.batch * CONFIG.seq_len
    table = Table("forward and backward", "bytes of text / s", "time / one device", "time / dense pipeline")
    for name, t in times.items():
        against_dense = "" if name == "one device" else t.over(times["4 dies, fp32"])
        table.add_row(name, f"{bytes_a_step / t.median:,.0f}", t.over(times["one device"]), against_dense)
    ticks = CONFIG.microbatches + 3
    on_real_dies = ticks / (CONFIG.microbatches * 4)
    table.caption = f"floor: 1.00 of one device here, where dies share cores; {on_real_dies:.2f} on dies that do not"
    return table


def _step(devices: int, link: str):
    prepared = training.prepare(dataclasses.replace(CONFIG, devices=devices, link=link))
    tokens = prepared.batch(0)
    step = jax.jit(prepared.task.loss_and_gradient).lower(prepared.params, tokens).compile()
    return lambda: step(prepared.params, tokens)


def _codecs() -> Table:
    """Encode and decode of what crosses in one step, alone."""
    ticks = CONFIG.microbatches + 3
    shape = (ticks * CONFIG.batch // CONFIG.microbatches, CONFIG.seq_len, CONFIG.width)
    x = jax.random.normal(jax.random.key(0), (4, *shape))
    runs = {"copy (floor)": _on_dies(lambda x: x + 1, x)}
    for link in LINKS[1:]:
        codec = as_codec(link)
        assert codec is not None
        runs[link] = _on_dies(lambda x, c=codec: c.decode(c.encode(x), shape=x.shape, dtype=x.dtype), x)
    whole = _step(4, "fp32")
    times = take_turns(runs | {"dense step": whole}, ROUNDS)
    table = Table("encode + decode, all dies, one step", "time / copy", "share of the dense step")
    for name in runs:
        table.add_row(name, times[name].over(times["copy (floor)"]), times[name].over(times["dense step"]))
    return table


def _on_dies(function, x):
    run = jax.jit(jax.shard_map(function, mesh=auto_mesh({"die": 4}), in_specs=P("die"), out_specs=P("die")))
    return lambda: run(jnp.asarray(x))


if __name__ == "__main__":
    main()
