"""Weights from one run to another, whatever the number of chips and the link.

Law: with dense links a model gives the same loss after it moved from 4 chips to 2 or 1, or back.
"""

import dataclasses
import json
import math
from pathlib import Path

from flax import nnx
from jaxtyping import PyTree

from snap_jax.config import Config
from snap_jax.errors import UsageError
from snap_jax.models import rwkv, stages
from snap_jax.nn import Boundary
from snap_jax.specs import parse_link
from snap_jax.training import checkpoints, manifest
from snap_jax.training.budgets import around_of


def weights_of(run: Path, config: Config, graph: nnx.GraphDef, fresh: PyTree) -> PyTree:
    """The weights of another run, stacked for the chips of `config`.

    The blocks move to the die that holds their layer now. A boundary keeps what it learned where the other run
    had one behind the same layer, in the same encoding and with the same around it; elsewhere it stays fresh.

    Args:
      run: its directory; of an unfinished run the last checkpoint is taken.
      config: of the run to start.
      graph: of a stage of the run to start.
      fresh: its first parameters, stacked.

    Raises:
      UsageError: if `run` holds no weights, or those of a model of another size.
    """
    source = _config(run)
    for name in ("layers", "width", "heads"):
        if (theirs := getattr(source, name)) != (ours := getattr(config, name)):
            raise UsageError(f"init_from={run}: it has {name}={theirs}, this run {ours}: use --{name} {theirs}")
    model, theirs = stages.join(*_stacked(run, source))
    _, boundaries = stages.join(graph, fresh)
    _, params = stages.split(model, _inherited(source, config, theirs, boundaries))
    return params


def inherits(run: Path, config: Config) -> bool:
    """Whether the boundaries of that run fit this one: the same encoding, and the same learned around it."""
    return _fits(_config(run), config)


def _inherited(source: Config, config: Config, theirs: list[Boundary], fresh: list[Boundary]) -> list[Boundary]:
    if not _fits(source, config):
        return fresh
    behind = {(i + 1) * source.layers // source.chips: boundary for i, boundary in enumerate(theirs)}
    each = config.layers // config.chips
    for i, boundary in enumerate(fresh):
        other = behind.get((i + 1) * each)
        if other is not None:
            nnx.update(boundary, nnx.state(other))
    return fresh


def _fits(source: Config, config: Config) -> bool:
    ours, theirs = parse_link(config.sent_link), parse_link(source.sent_link)
    same_encoding = ours is not None and theirs is not None and ours.encoding == theirs.encoding
    return same_encoding and around_of(source) == around_of(config)


def _stacked(run: Path, source: Config) -> tuple[nnx.GraphDef, PyTree]:
    """The graph of a stage of that run, and its stacked parameters, on one device."""
    size = rwkv.Config(source.layers, source.width, source.heads, chunk=math.gcd(source.window, 32))
    codec, around = parse_link(source.sent_link), around_of(source)
    boundaries = [Boundary(codec, source.width, around=around) for _ in range(source.chips)]
    graph, like = stages.split(rwkv.RWKV(size, rngs=nnx.Rngs(0)), boundaries)
    final = run / "checkpoints" / "final"
    if final.is_dir() and not manifest.fault(final):
        return graph, checkpoints.restore_weights(final, like)
    path, _ = checkpoints.last_good(run / "checkpoints")
    if path is None:
        raise UsageError(f"init_from={run}: no checkpoint is there: give the --out of a run that has saved one")
    return graph, checkpoints.restore_weights(path / "default", {"params": like})["params"]


def _config(run: Path) -> Config:
    try:
        fields = json.loads((run / "run.json").read_text(encoding="utf-8"))["config"]
    except (OSError, ValueError, KeyError) as error:
        raise UsageError(f"init_from={run}: that is no run directory ({error}): give the --out of a run") from error
    known = {field.name for field in dataclasses.fields(Config)}
    return Config(**{name: value for name, value in fields.items() if name in known})
