"""Weights from one run to another, whatever the number of chips, the layout, the link and the mode.

Law: with dense links a model gives the same loss after it moved from 4 chips to 2 or 1, or back.
"""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
from flax import nnx
from jaxtyping import PyTree

from snap_jax.boundary.boundary import Boundary
from snap_jax.errors import UsageError
from snap_jax.models import pipeline_stages
from snap_jax.models.base import Network
from snap_jax.models.pipeline_stages import Graph
from snap_jax.parallel import tensor_parallel
from snap_jax.training import checkpoints, checksums
from snap_jax.training.boundary_setup import codec_of, transform_of
from snap_jax.training.config import Settings, read_settings
from snap_jax.training.tasks.assemble import on_host

_SAME = ("model", "layers", "width", "heads")


def weights_of(
    run: Path, config: Settings, network: Callable[[Settings], Network], graph: Graph, fresh: PyTree
) -> PyTree:
    """The weights of another run, stacked for the chips of `config`, on one device.

    The blocks move to the die that holds their layer now. A boundary keeps what it learned where the other run
    had one behind the same layer, in the same encoding and with the same around it; a region, where as many chips add
    up the same spikes; elsewhere they stay fresh. So do the neurons of a spiking model that starts from another.

    Args:
      run: its directory; of an unfinished run the last checkpoint is taken.
      config: of the run to start.
      network: the model of a config.
      graph: of the stages of the run to start.
      fresh: its first parameters, stacked.

    Raises:
      UsageError: if `run` holds no weights, or those of another task or model or of one of another size.
    """
    source = settings_of(run)
    if source.task != config.task:
        raise UsageError(f"init_from={run}: that is a run of `train {source.task}`: start from one of {config.task}")
    for name in _SAME:
        theirs, ours = getattr(source, name, None), getattr(config, name, None)
        if theirs != ours:
            raise UsageError(f"init_from={run}: it has {name}={theirs}, this run {ours}: use --{name} {theirs}")
    model, theirs = pipeline_stages.join(*_stacked(run, source, network))
    fresh_model, boundaries = pipeline_stages.join(graph, on_host(fresh))
    _take_over(fresh_model, model, regions=_same_regions(source, config))
    if _fits(source, config, [boundary.features for boundary in boundaries]):
        _inherit(fresh_model, theirs, boundaries)
    return pipeline_stages.split(fresh_model, boundaries)[1]


def inherits(run: Path, config: Settings, widths: Sequence[int]) -> bool:
    """Whether boundaries of these widths fit from that run: the same encoding, and the same learned around it."""
    return _fits(settings_of(run), config, widths)


def _take_over(model: Network, other: Network, *, regions: bool) -> None:
    """Parameters that both have; thresholds of regions only if told."""
    theirs = dict(nnx.to_flat_state(nnx.state(other)))
    taken = [
        (path, theirs[path])
        for path, _ in nnx.to_flat_state(nnx.state(model))
        if path in theirs and (regions or "region" not in path)
    ]
    nnx.update(model, nnx.from_flat_state(taken))


def _inherit(model: Network, theirs: list[Boundary], fresh: list[Boundary]) -> None:
    """What was learned behind the same layer."""
    behind = dict(zip(pipeline_stages.cuts(model, len(theirs)), theirs, strict=True))
    for place, boundary in zip(pipeline_stages.cuts(model, len(fresh)), fresh, strict=True):
        if place in behind:
            nnx.update(boundary, nnx.state(behind[place]))


def _fits(source: Settings, config: Settings, widths: Sequence[int]) -> bool:
    return _same_encoding(source, config) and all(transform_of(source, w) == transform_of(config, w) for w in widths)


def _same_regions(source: Settings, config: Settings) -> bool:
    return _same_encoding(source, config) and source.divided.tensor == config.divided.tensor


def _same_encoding(source: Settings, config: Settings) -> bool:
    ours, theirs = codec_of(config), codec_of(source)
    return ours is not None and theirs is not None and ours.encoding == theirs.encoding


def _stacked(run: Path, source: Settings, network: Callable[[Settings], Network]) -> tuple[Graph, PyTree]:
    """The graph of a stage of that run, and its stacked parameters, on one device."""
    codec, layout, model = codec_of(source), source.divided, network(source)
    widths = [model.width(place) for place in pipeline_stages.cuts(model, layout.pipeline)]
    boundaries = [Boundary(codec, width, transform=transform_of(source, width)) for width in widths]
    if layout.tensor > 1:
        model = tensor_parallel.divide(model, layout.tensor, codec)
    graph, like = pipeline_stages.split(model, boundaries)
    final = run / "checkpoints" / "final"
    if final.is_dir() and not checksums.fault(final):
        return graph, _restored(run, final, like)
    path, _ = checkpoints.last_good(run / "checkpoints")
    if path is None:
        raise UsageError(f"init_from={run}: no checkpoint is there: give the --out of a run that has saved one")
    return graph, _restored(run, path / "default", {"params": like})["params"]


def _restored(run: Path, path: Path, like: PyTree) -> PyTree:
    # Before anything is read: Orbax would leave what it had begun to read behind, to complain of later.
    if Counter(leaf.shape for leaf in jax.tree.leaves(like)) - Counter(checkpoints.shapes(path)):
        raise UsageError(
            f"init_from={run}: its weights have other shapes: start from a run on data of as many classes and channels"
        )
    try:
        return checkpoints.restore_weights(path, like)
    except (ValueError, KeyError) as error:
        first = str(error).splitlines()[0]
        raise UsageError(
            f"init_from={run}: its weights are of another model ({first}): start from a run on the same kind of data"
        ) from error


def settings_of(run: Path) -> Settings:
    """What the run in a directory is.

    Raises:
      UsageError: if there is none.
    """
    try:
        fields = json.loads((run / "run.json").read_text(encoding="utf-8"))["config"]
    except (OSError, ValueError, KeyError) as error:
        raise UsageError(f"init_from={run}: that is no run directory ({error}): give the --out of a run") from error
    return read_settings(fields)
