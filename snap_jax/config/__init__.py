"""What one run is: task, data, model, mode, layout, links, sizes, length; and the command line that repeats it.

Law: a run is the fields of its `Config` and nothing else; those that cannot be together are refused when it is made.
"""

from snap_jax.config.settings import Settings as Settings
from snap_jax.config.tasks import Config as Config
from snap_jax.config.tasks import VisionConfig as VisionConfig
from snap_jax.config.written import command as command
from snap_jax.config.written import read_settings as read_settings
from snap_jax.config.written import written_settings as written_settings
