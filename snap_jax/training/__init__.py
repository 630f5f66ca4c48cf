"""Training: from a `LanguageConfig` to a run directory, through whatever stops it on the way.

`train` drives: `runs` begins a run or takes it up, `loop` steps, `checkpoints` and `metrics` keep what it made, in a
`directory`. All that changes is one `TrainState`; a task is reached through a `Job`.
"""

from snap_jax.training.driver import train as train
from snap_jax.training.job import Job as Job
from snap_jax.training.language import evaluate as evaluate
from snap_jax.training.language import microbatches_of as microbatches_of
from snap_jax.training.lifecycle import Progress as Progress
from snap_jax.training.prepare import prepare as prepare
from snap_jax.training.signals import Stopped as Stopped
from snap_jax.training.state import TrainState as TrainState
