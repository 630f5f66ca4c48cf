"""What one run is: task, data, model, mode, layout, links, sizes, length; and the command line that repeats it.

Law: a run is the fields of its `LanguageConfig` and nothing else; those that cannot be together are refused when it
is made.
"""

from snap_jax.training.config.run_configs import LanguageConfig as LanguageConfig
from snap_jax.training.config.run_configs import VisionConfig as VisionConfig
from snap_jax.training.config.serialization import command as command
from snap_jax.training.config.serialization import read_settings as read_settings
from snap_jax.training.config.serialization import written_settings as written_settings
from snap_jax.training.config.settings import Settings as Settings
