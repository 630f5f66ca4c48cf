"""The place where a tensor leaves a device: a codec, what is learned around it, and what is measured there."""

from snap_jax.boundary.boundary import Boundary as Boundary
from snap_jax.boundary.learned_codec import Threshold as Threshold
from snap_jax.boundary.learned_codec import decay_mask as decay_mask
from snap_jax.boundary.rate_control import RateController as RateController
from snap_jax.boundary.telemetry import Telemetry as Telemetry
from snap_jax.boundary.transforms import LearnedTransform as LearnedTransform
from snap_jax.boundary.transforms import Transform as Transform
from snap_jax.boundary.transforms import chain as chain
