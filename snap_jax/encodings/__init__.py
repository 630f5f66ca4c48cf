"""Encodings: float -> integer spikes -> float, local, lossy and differentiable."""

from snap_jax.encodings.base import Encoding as Encoding
from snap_jax.encodings.base import Side as Side
from snap_jax.encodings.base import Threshold as Threshold
from snap_jax.encodings.base import all_finite as all_finite
from snap_jax.encodings.base import saturate as saturate
from snap_jax.encodings.counts import Count as Count
from snap_jax.encodings.counts import Ternary as Ternary
from snap_jax.encodings.floats import Float as Float
from snap_jax.encodings.integers import Integer as Integer
from snap_jax.encodings.latency import Latency as Latency
from snap_jax.encodings.latency import simulate_latency as simulate_latency
from snap_jax.encodings.phase import Phase as Phase
from snap_jax.encodings.phase import simulate_phase as simulate_phase
from snap_jax.encodings.rate import Rate as Rate
from snap_jax.encodings.rate import simulate as simulate
from snap_jax.encodings.topk import TopK as TopK
