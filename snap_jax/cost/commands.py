"""The commands `snap-jax cost timeline` and `snap-jax cost sweep`, as the command line shows them."""

from pathlib import Path
from typing import Annotated, Literal

import tyro

from snap_jax.cost import cli
from snap_jax.cost.schedules import PipelineOrder
from snap_jax.cost.workload import Workload


def draw(
    source: Annotated[str, tyro.conf.Positional],
    system: str,
    out: Path,
    devices: int,
    microbatches: int,
    forward_s: float,
    backward_s: float = 0.0,
    kind: Literal["gpipe", "1f1b", "interleaved"] = "1f1b",
    virtual: int = 1,
    overlap: bool = True,
) -> None:
    """Draw what each device of a pipeline does, and when.

    Args:
      source: A run directory, or a traffic.json.
      system: A name from `snap-jax cost --list`, or a TOML file.
      out: A chart (.svg), or a trace for ui.perfetto.dev (.json).
      devices: Devices of the pipeline.
      microbatches: Microbatches of one step.
      forward_s: Seconds of the forward pass of one microbatch on one device.
      backward_s: Seconds of its backward pass.
      kind: The order of the passes.
      virtual: Virtual stages per device, for interleaved.
      overlap: Whether devices compute while they send.
    """
    schedule = PipelineOrder(kind, devices, microbatches, forward_s, backward_s, virtual, overlap)
    cli.draw_timeline(source, system, schedule, out)


def sweep(
    system: str,
    vary: str,
    values: list[str],
    unit: str | None = None,
    width: int = 1024,
    devices: int = 4,
    firing_rate: float = 0.1,
    layout: Literal["tensor", "pipeline"] = "tensor",
) -> None:
    """Compare dense, hybrid and spiking blocks while one field of them varies.

    Args:
      system: A name from `snap-jax cost --list`.
      vary: The field: width, depth, tokens, chips, bits, firing_rate, time_steps, bandwidth, layout or dtype.
      values: Its values.
      unit: A compute unit from `snap-jax cost --list`; without one links alone are priced.
      width: Width of the model.
      devices: Devices that share it.
      firing_rate: Firing rate of the spikes.
      layout: How the model is divided.
    """
    base = Workload(width=width, chips=devices, firing_rate=firing_rate, layout=layout)
    cli.show_sweep(system, vary, values, unit, base)
