"""Compressed collectives for JAX: spike-coded, bit-packed, trainable, and priced."""

from snap_jax import cost as cost
from snap_jax.boundary import Boundary as Boundary
from snap_jax.boundary import LearnedTransform as LearnedTransform
from snap_jax.boundary import RateController as RateController
from snap_jax.codecs import Codec as Codec
from snap_jax.codecs.link_spec import parse_link as codec  # noqa: F401
from snap_jax.collectives import all_gather as all_gather
from snap_jax.collectives import all_to_all as all_to_all
from snap_jax.collectives import pmean as pmean
from snap_jax.collectives import ppermute as ppermute
from snap_jax.collectives import psum as psum
from snap_jax.collectives import psum_scatter as psum_scatter
from snap_jax.encodings import Cast as Cast
from snap_jax.encodings import Count as Count
from snap_jax.encodings import Int as Int
from snap_jax.encodings import Latency as Latency
from snap_jax.encodings import Phase as Phase
from snap_jax.encodings import Rate as Rate
from snap_jax.encodings import Ternary as Ternary
from snap_jax.encodings import TopK as TopK
from snap_jax.errors import UsageError as UsageError
from snap_jax.parallel.data_parallel import compressed_mean as compressed_mean
from snap_jax.parallel.error_feedback import error_feedback as error_feedback
from snap_jax.parallel.mesh import emulate_devices as emulate_devices
from snap_jax.traffic import Traffic as Traffic
from snap_jax.traffic import Transfer as Transfer
from snap_jax.traffic import assert_no_float_collectives as assert_no_float_collectives
from snap_jax.traffic import collective_traffic as collective_traffic
from snap_jax.traffic import compiled_traffic as compiled_traffic
from snap_jax.wires import Bitmap as Bitmap
from snap_jax.wires import Bitplanes as Bitplanes
from snap_jax.wires import Events as Events
from snap_jax.wires import Ladder as Ladder
from snap_jax.wires import Packed as Packed
from snap_jax.wires import Rans as Rans
