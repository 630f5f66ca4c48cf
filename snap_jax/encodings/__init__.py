"""Encodings: float -> integer spikes -> float, local, lossy and differentiable."""

from snap_jax.encodings.base import Encoding as Encoding
from snap_jax.encodings.base import Shared as Shared
from snap_jax.encodings.base import Side as Side
from snap_jax.encodings.base import Spikes as Spikes
from snap_jax.encodings.base import Threshold as Threshold
from snap_jax.encodings.base import all_finite as all_finite
from snap_jax.encodings.base import encoding as encoding
from snap_jax.encodings.base import in_thresholds as in_thresholds
from snap_jax.encodings.base import learnable as learnable
from snap_jax.encodings.base import saturate as saturate
from snap_jax.encodings.cast import Cast as Cast
from snap_jax.encodings.count import Count as Count
from snap_jax.encodings.count import Ternary as Ternary
from snap_jax.encodings.exact import Exact as Exact
from snap_jax.encodings.integer import Int as Int
from snap_jax.encodings.latency import Latency as Latency
from snap_jax.encodings.latency import simulate_latency as simulate_latency
from snap_jax.encodings.outliers import Outliers as Outliers
from snap_jax.encodings.phase import Phase as Phase
from snap_jax.encodings.phase import simulate_phase as simulate_phase
from snap_jax.encodings.rate import Rate as Rate
from snap_jax.encodings.rate import simulate as simulate
from snap_jax.encodings.scaled import Scaled as Scaled
from snap_jax.encodings.surrogates import straight_through as straight_through
from snap_jax.encodings.topk import TopK as TopK
