"""Training: from a config to a run directory, through whatever stops the run on the way.

`train` writes a run directory, `measure` only returns what it found. `lifecycle` starts or resumes a run, `loop` steps,
`checkpoints` and `metrics` write to the `run_dir`. All that changes is one `TrainState`; a task is a `Job`.
"""

from snap_jax.training.failures import Stopped as Stopped
from snap_jax.training.language import evaluate as evaluate
from snap_jax.training.lifecycle import Trained as Trained
from snap_jax.training.lifecycle import measure as measure
from snap_jax.training.lifecycle import prepare as prepare
from snap_jax.training.lifecycle import train as train
from snap_jax.training.links import Links as Links
from snap_jax.training.links import links_of as links_of
from snap_jax.training.run import Progress as Progress
