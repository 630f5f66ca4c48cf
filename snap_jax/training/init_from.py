"""Weights of one run as the start of another, for any number of devices, layout, link and mode.

With float links a model gives the same loss after it moved from 4 devices to 2 or 1, or back.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
from flax import nnx
from jaxtyping import PyTree

from snap_jax.boundary.boundary import Boundary
from snap_jax.codecs.codec import Codec
from snap_jax.errors import UsageError
from snap_jax.models.base import Network
from snap_jax.models.split import cuts, split
from snap_jax.models.stages import Stages
from snap_jax.parallel import tensor_parallel
from snap_jax.training import checkpoints
from snap_jax.training.config import Settings, read_settings
from snap_jax.training.config.settings import flag
from snap_jax.training.link_setup import Links, links_of, region_codecs
from snap_jax.training.run_dir import record
from snap_jax.training.tasks.assemble import on_one_device

_SAME = ("model", "layers", "width", "heads", "streams")


def weights_of(
    run: Path, config: Settings, links: Links, network: Callable[[Settings], Network], stages: Stages, fresh: PyTree
) -> PyTree:
    """Return the weights of another run, stacked for the devices of `config`, on one device.

    Blocks move to the stage that holds their layer now. A boundary keeps what it learned where the other run had one
    after the same layer, with the same encoding and transform. A tensor region keeps its thresholds where as many
    devices add up the same spikes. Elsewhere they stay fresh, as do the neurons of a spiking model that starts from a
    model without neurons.

    Args:
      run: its directory; of an unfinished run the last checkpoint is taken.
      config: of the run to start.
      links: of the run to start.
      network: returns the model of a config.
      stages: of the run to start.
      fresh: its first parameters, stacked.

    Raises:
      UsageError: if `run` holds no weights, or those of another task, model or size.
    """
    source = settings_of(run)
    if source.task != config.task:
        raise UsageError(
            f"--init-from {run}: that is a run of `train {source.task}`: start from a run of `train {config.task}`"
        )
    for name in _SAME:
        theirs, ours = getattr(source, name, None), getattr(config, name, None)
        if theirs != ours:
            raise UsageError(f"--init-from {run}: it has {flag(name)} {theirs}, not {ours}: use {flag(name)} {theirs}")
    model, theirs = _joined(run, source, network)
    fresh_model, boundaries = stages.join(on_one_device(fresh))
    same = _same_encoding(region_codecs(source, links_of(source))[0], region_codecs(config, links)[0])
    _take_over(fresh_model, model, regions=same and source.device_layout.tensor == config.device_layout.tensor)
    if _fits(links_of(source), links, [boundary.features for boundary in boundaries]):
        _inherit(fresh_model, theirs, boundaries)
    return split(fresh_model, boundaries)[1]


def inherits(run: Path, links: Links, widths: Sequence[int]) -> bool:
    """Return whether boundaries of these widths fit from that run: the same encoding, and the same transform."""
    return _fits(links_of(settings_of(run)), links, widths)


def _take_over(model: Network, other: Network, *, regions: bool) -> None:
    """Set the parameters that both have; thresholds of regions only if told to."""
    theirs = dict(nnx.to_flat_state(nnx.state(other)))
    taken = [
        (path, theirs[path])
        for path, _ in nnx.to_flat_state(nnx.state(model))
        if path in theirs and (regions or "region" not in path)
    ]
    nnx.update(model, nnx.from_flat_state(taken))


def _inherit(model: Network, theirs: list[Boundary], fresh: list[Boundary]) -> None:
    """Set what was learned after the same layer."""
    after = dict(zip(cuts(model, len(theirs)), theirs, strict=True))
    for place, boundary in zip(cuts(model, len(fresh)), fresh, strict=True):
        if place in after:
            nnx.update(boundary, nnx.state(after[place]))


def _fits(theirs: Links, ours: Links, widths: Sequence[int]) -> bool:
    return _same_encoding(theirs.codec, ours.codec) and all(theirs.transform(w) == ours.transform(w) for w in widths)


def _same_encoding(theirs: Codec | None, ours: Codec | None) -> bool:
    return theirs is not None and ours is not None and theirs.encoding == ours.encoding


def _joined(run: Path, source: Settings, network: Callable[[Settings], Network]) -> tuple[Network, list[Boundary]]:
    """The model of that run and its boundaries, on one device."""
    links, layout, model = links_of(source), source.device_layout, network(source)
    widths = [model.width(place) for place in cuts(model, layout.pipeline)]
    boundaries = [Boundary(links.codec, width, transform=links.transform(width)) for width in widths]
    if layout.tensor > 1:
        model = tensor_parallel.divide(model, layout.tensor, region_codecs(source, links)[0])
    stages, like = split(model, boundaries)
    final = run / "checkpoints" / "final"
    if final.is_dir() and not checkpoints.fault(final):
        return stages.join(restored(run, final, like))
    path, _ = checkpoints.last_good(run / "checkpoints")
    if path is None:
        raise UsageError(f"--init-from {run}: it has no checkpoint: give the --out of a run that has saved one")
    return stages.join(restored(run, path / "default", {"params": like})["params"])


def restored(run: Path, path: Path, like: PyTree) -> PyTree:
    """Return the parameters that a run saved in `path`, of the structure and shapes of `like`, on one device.

    Raises:
      UsageError: if the saved ones are others.
    """
    # Checked before anything is read: Orbax would otherwise complain later of what it had begun to read.
    if Counter(leaf.shape for leaf in jax.tree.leaves(like)) - Counter(checkpoints.shapes(path)):
        raise UsageError(
            f"--init-from {run}: its weights have other shapes: use a run on data of as many classes and channels"
        )
    try:
        return checkpoints.restore_weights(path, like)
    except (ValueError, KeyError) as error:
        first = str(error).splitlines()[0]
        raise UsageError(
            f"--init-from {run}: its weights are of another model ({first}): use a run on the same kind of data"
        ) from error


def settings_of(run: Path) -> Settings:
    """Return the settings of the run in a directory.

    Raises:
      UsageError: if there is none.
    """
    fix = "give the --out of a run"
    try:
        found = record(run, fix)
    except UsageError as error:
        raise UsageError(f"--init-from {run}: {error}") from error
    if found is None:
        raise UsageError(f"--init-from {run}: this is no run directory (it has no run.json): {fix}")
    return read_settings(found.config, f"--init-from {run}: run.json")
