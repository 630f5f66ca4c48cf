"""Which job a config asks for."""

from snap_jax.config import Config, Settings, VisionConfig
from snap_jax.training import language, vision
from snap_jax.training.divided import Divided


def prepare(config: Settings) -> Divided:
    """Loads the data and builds the task; every mistake of the user is found here.

    Raises:
      UsageError: for data, links, chips or sizes that cannot be; the message names the fix.
    """
    if isinstance(config, VisionConfig):
        return vision.prepare(config)
    assert isinstance(config, Config)
    return language.prepare(config)
