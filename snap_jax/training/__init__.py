"""Training: from a config to a run directory, through whatever stops the run on the way.

`train` writes a run directory, `measure` only returns what it found. `starting` begins or resumes a run, `loop` steps,
`checkpoints` and `metrics` write to the `run_dir`. All that changes is one `TrainState`; a task is a `Job`. Each name
is loaded when it is first used, so that reading a config does not load Orbax.
"""

import pkgutil
from typing import TYPE_CHECKING

_SOURCES = {
    "WriteError": "failures",
    "Links": "link_setup",
    "Progress": "run",
    "Stopped": "failures",
    "Trained": "lifecycle",
    "evaluate": "language",
    "links_of": "link_setup",
    "measure": "lifecycle",
    "prepare": "starting",
    "train": "phases",
}
__all__ = [*_SOURCES]  # pyright: ignore[reportUnsupportedDunderAll]

if TYPE_CHECKING:
    from snap_jax.training.failures import Stopped as Stopped
    from snap_jax.training.failures import WriteError as WriteError
    from snap_jax.training.language import evaluate as evaluate
    from snap_jax.training.lifecycle import Trained as Trained
    from snap_jax.training.lifecycle import measure as measure
    from snap_jax.training.link_setup import Links as Links
    from snap_jax.training.link_setup import links_of as links_of
    from snap_jax.training.phases import train as train
    from snap_jax.training.run import Progress as Progress
    from snap_jax.training.starting import prepare as prepare
else:

    def __getattr__(name: str):
        """Load a public name on first use."""
        if name not in _SOURCES:
            raise AttributeError(f"module 'snap_jax.training' has no attribute {name!r}")
        globals()[name] = value = pkgutil.resolve_name(f"snap_jax.training.{_SOURCES[name]}:{name}")
        return value
