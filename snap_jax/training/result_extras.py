"""Sections of `result.json` for readers: when and where a run was made, and what a step of a pipeline computes."""

import datetime
import subprocess
from pathlib import Path

import jax

from snap_jax import cost
from snap_jax.errors import UsageError
from snap_jax.parallel.mesh import STAGE
from snap_jax.parallel.schedule import Schedule
from snap_jax.traffic.count_operations import count_traced
from snap_jax.training.config import Settings

_UNIT = cost.UNITS["H100"]


def made_section() -> dict:
    """Return the date, the devices, and the commit of the source of snap_jax; null outside of a checkout.

    >>> sorted(made_section()["made"])
    ['commit', 'date', 'devices']
    """
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    kinds = sorted({device.device_kind for device in jax.devices()})
    devices = f"{len(jax.devices())} x {', '.join(kinds)}"
    return {"made": {"date": now, "commit": source_commit(Path(__file__).parents[1]), "devices": devices}}


def source_commit(package: Path) -> str | None:
    """Return the commit of a package whose files are in a git repository, with "+" where they were changed since.

    Files that git does not track, such as those of an installed package, have none.
    """

    def git(*words: str) -> str:
        ran = subprocess.run(
            ["git", "-C", str(package), *words], capture_output=True, text=True, check=True, timeout=10
        )
        return ran.stdout.strip()

    try:
        git("ls-files", "--error-unmatch", "__init__.py")
        return git("rev-parse", "--short=10", "HEAD") + "+" * bool(git("status", "--porcelain", "--", "."))
    except (OSError, subprocess.SubprocessError):
        return None


def timeline_section(
    traced: jax.stages.Traced, schedule: Schedule | None, mesh: jax.sharding.Mesh, config: Settings
) -> dict:
    """Return the order of a pipeline step, and how long the passes of a microbatch take at the peak rate of an H100.

    Every device works in every tick of the schedule, so one tick has `multiply-accumulates / (devices ticks)`, a third
    of them in the forward pass.

    Returns:
      {"timeline": {}} with one stage, or where only the run decides how often something is computed.
    """
    if mesh.shape.get(STAGE, 1) == 1 or schedule is None or config.pipeline_schedule not in ("gpipe", "1f1b"):
        return {"timeline": {}}
    try:
        counted = count_traced(traced)
    except UsageError:
        return {"timeline": {}}
    total = sum(one.times for one in counted.counts if one.kind == "mac")
    assert _UNIT.tera_ops_per_s is not None
    tick_s = total / (mesh.size * schedule.ticks * config.accumulate) / (_UNIT.tera_ops_per_s.low * 1e12)
    order = {"kind": config.pipeline_schedule, "devices": mesh.shape[STAGE], "microbatches": schedule.microbatches}
    return {"timeline": order | {"forward_s": tick_s / 3, "backward_s": 2 * tick_s / 3, "unit": _UNIT.name}}
