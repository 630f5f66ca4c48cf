"""Measure the bytes of a training step in each layout of four devices, and what coding them costs in loss.

Expectations: data parallelism sends parameters, tensor parallelism sends activations twice per layer and direction, a
pipeline sends activations once per stage. With 3-bit spikes forward and bf16 backward, the last two should send about
a third of the bytes of floats. Ternary gradients with 4-bit sums should send a tenth. Losses are of one seed and few
steps, so only large differences mean anything.

`python -m benchmarks.layout_bytes [LAYOUT...]` runs all layouts, or those named.
"""

import functools
import sys

import jax
import optax
from flax import nnx
from rich.console import Console
from rich.table import Table

import snap_jax as snap
from benchmarks.results import show
from benchmarks.timing import machine
from snap_jax.codecs.link_spec import as_codec
from snap_jax.data import text_loader
from snap_jax.models import transformer
from snap_jax.parallel.mesh import emulate_devices
from snap_jax.training.language import next_token
from snap_jax.training.tasks import assemble
from snap_jax.training.tasks.layout import Layout, parse_layout
from snap_jax.training.tasks.losses import Batch

DEVICES, STEPS, SEQ_LEN, BATCH = 4, 150, 64, 16
SIZE = transformer.TransformerConfig(layers=2, width=64, heads=4)
LAYOUTS = ("data", "tensor", "pipeline:2+tensor", "data:2+tensor", "data:2+pipeline")
# 1.53 mean sizes is the best threshold for a ternary Gaussian (Max 1960, as in `snap_jax.parallel.error_feedback`).
CODED = ("count:3", "bf16", snap.Codec(snap.Ternary(threshold=1.53), snap.Packed()))


def main() -> None:
    emulate_devices(DEVICES)
    table = Table("layout", "links", "bytes per step, forward", "backward and gradients", "loss, nats per byte")
    for spec in sys.argv[1:] or LAYOUTS:
        for name, codecs in (("fp32", ("fp32", "fp32", None)), ("coded", CODED)):
            forward, backward, loss = learn(parse_layout(spec, DEVICES), *codecs)
            table.add_row(spec, name, f"{forward:,}", f"{backward:,}", f"{loss:.3f}")
    table.caption = (
        f"transformer {SIZE.layers} x {SIZE.width}, {STEPS} steps of {BATCH} x {SEQ_LEN} bytes, last 20 averaged"
    )
    console = Console()
    console.print(f"[bold]Layouts[/bold]: {machine()}")
    show(console, table)


def learn(layout: Layout, link: str, grad_link: str, data_codec: snap.Codec | None) -> tuple[int, int, float]:
    """Return the bytes of one step, forward and backward, and the loss at the end."""
    model = transformer.Transformer(SIZE, rngs=nnx.Rngs(0))
    codecs = as_codec(link), as_codec(grad_link)
    task, params = assemble.build(model, layout, *codecs, data_codec=data_codec)
    optimizer = task.with_average(optax.adam(3e-3))
    state = optimizer.init(params)

    def step(params, state, tokens):
        loss, gradient = task.loss_and_gradient(params, tokens)
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state, loss

    program = jax.jit(step).lower(params, state, batch(0)).compile()
    losses = []
    for index in range(STEPS):
        params, state, loss = program(params, state, batch(index))
        losses.append(float(loss))
    traffic = snap.compiled_traffic(program, task.mesh)
    forward = traffic.where(lambda t: t.direction == "forward" and "boundary" in t.path).sent_bytes
    return forward, traffic.sent_bytes - forward, sum(losses[-20:]) / 20


@functools.cache
def corpus() -> text_loader.Corpus:
    return text_loader.load("stdlib")


def batch(step: int) -> Batch:
    """Return a batch as two microbatches, the same for every layout."""
    rows = text_loader.batch(corpus().train, step=step, seed=0, batch=BATCH, seq_len=SEQ_LEN)
    return next_token(rows.reshape(2, BATCH // 2, -1))


if __name__ == "__main__":
    main()
