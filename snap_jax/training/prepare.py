"""Which job a config asks for."""

from snap_jax.training import language, vision
from snap_jax.training.config import LanguageConfig, Settings, VisionConfig
from snap_jax.training.parallel_job import Divided


def prepare(config: Settings) -> Divided:
    """Loads the data and builds the task; every mistake of the user is found here.

    Raises:
      UsageError: for data, links, chips or sizes that cannot be; the message names the fix.
    """
    if isinstance(config, VisionConfig):
        return vision.prepare(config)
    assert isinstance(config, LanguageConfig)
    return language.prepare(config)
