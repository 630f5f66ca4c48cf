"""The place where a tensor leaves a device: a codec, what is learned around it, and what is measured there."""

from snap_jax.boundary.boundary import Boundary as Boundary
from snap_jax.boundary.rate_control import RateController as RateController
from snap_jax.boundary.telemetry import Telemetry as Telemetry
from snap_jax.boundary.transform import LearnedTransform as LearnedTransform
