"""What a run is: `LanguageConfig` or `VisionConfig`, their checks, and the command line that repeats a run."""

from snap_jax.training.config.run_configs import LanguageConfig as LanguageConfig
from snap_jax.training.config.run_configs import VisionConfig as VisionConfig
from snap_jax.training.config.serialization import command as command
from snap_jax.training.config.serialization import read_settings as read_settings
from snap_jax.training.config.serialization import written_settings as written_settings
from snap_jax.training.config.settings import Settings as Settings
