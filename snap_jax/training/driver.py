"""From a `LanguageConfig` to a finished run directory, through whatever stops it on the way.

Laws: wire bytes in the result are those of the compiled program of the very step that ran. A run that was stopped and
resumed ends with the very bits of one that was not.
"""

import json
from collections.abc import Callable
from pathlib import Path

from jaxtyping import PyTree

from snap_jax.boundary.telemetry import Telemetry
from snap_jax.errors import UsageError
from snap_jax.traffic import Traffic
from snap_jax.traffic.hlo import compiled_traffic
from snap_jax.training import checkpoints, run_dir
from snap_jax.training.atomic_io import full_disk_explained, write_atomically
from snap_jax.training.config import Settings, command, written_settings
from snap_jax.training.lifecycle import Progress, Run, begin, take_up
from snap_jax.training.loop import fit
from snap_jax.training.result_json import as_sent, cost_section, environment, wire_section
from snap_jax.training.run_dir import how_to_resume
from snap_jax.training.state import TrainState, averaged, compile_step


def train(
    config: Settings,
    out: Path,
    *,
    overwrite: bool = False,
    resume: bool = False,
    on_progress: Callable[[Progress], None] | None = None,
    on_note: Callable[[str], None] | None = None,
) -> dict:
    """Trains, evaluates, writes the run directory, and returns what `result.json` holds.

    Args:
      config: the run.
      out: its directory.
      overwrite: replace the run that is there.
      resume: go on with the run that is there; begin it if there is none.
      on_progress: told where the run stands, every few steps.
      on_note: told what else there is to say, one line each.

    Raises:
      UsageError: as `prepare`; if `out` cannot be written, or holds another run; if the disk is full; if the loss or
        its gradient stops being finite.
      Stopped: after SIGTERM or SIGINT, when the step under way is done and saved.
    """
    on_progress, on_note = on_progress or (lambda _: None), on_note or (lambda _: None)
    if resume and overwrite:
        raise UsageError("train: --resume goes on, --overwrite starts again: give one of them")
    with full_disk_explained(out, how_to_resume(config, out)):
        known = run_dir.record(out) if resume else None
        if known is None:
            return _complete(*begin(config, out, overwrite, on_progress))
        run_dir.check_config(out, known, config)
        if done := run_dir.finished(out):
            on_note(f"the run in {out} is finished: nothing to resume")
            return done
        return _complete(*take_up(config, out, known, on_progress, on_note))


def _complete(run: Run, state: TrainState) -> dict:
    run.on_progress(Progress(int(state.step), run.config.steps))
    step = compile_step(run.job, run.config, run.optimizer, state)
    traffic = compiled_traffic(step, run.job.mesh)
    bits = wire_section(traffic, run.job.mesh.shape, run.elements)["bits_per_element"]
    state = fit(run, step, state, bits)
    params, frozen = averaged(state, run.config.ema), {}
    if run.config.freeze is not None:
        params, frozen = run.job.freeze(params, run.config.freeze)
    write_atomically(run.out / "traffic.json", traffic.to_json())
    checkpoints.save_weights(run.out / "checkpoints" / "final", params)
    result = _result(run, params, traffic) | frozen | {"training": _history(run, state), "seconds": run.seconds}
    write_atomically(run.out / "result.json", json.dumps(result, indent=1))
    return result


def _result(run: Run, params: PyTree, traffic: Traffic) -> dict:
    sections, seen = run.job.conclude(params, run.out)
    wire, shape = _wire(run, traffic, seen), run.job.mesh.shape
    sent = as_sent(traffic, shape, run.elements, wire.get("sent_bits_per_element"))
    return (
        sections
        | run.job.beside()
        | {
            "wire": wire,
            "cost": cost_section(traffic, shape, sent),
            "command": f"{command(run.config)} --out {run.out}",
            "config": written_settings(run.config)
            | {"link": run.config.sent_link, "grad_link": run.config.backward_link},
            "versions": environment(),
        }
    )


def _wire(run: Run, traffic: Traffic, seen: Telemetry) -> dict:
    """Under a budget, besides, what was asked for and what it came to, the tokens that predict included."""
    section = wire_section(traffic, run.job.mesh.shape, run.elements, seen, run.job.shares)
    if not run.config.budget or "sent_bits_per_element" not in section:
        return section
    total = section["sent_bits_per_element"] + run.job.context_bits
    return section | {"budget": run.config.budget, "budget_bits_per_element": total}


def _history(run: Run, state: TrainState) -> dict:
    """How the run went."""
    return {
        "steps": int(state.step),
        "stopped_early": int(state.step) < run.config.steps,
        "resumed_at": list(run.record.resumed_at),
        "notes": list(run.record.notes),
    }
