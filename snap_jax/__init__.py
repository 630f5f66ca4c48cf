"""Compressed collectives for JAX: spike-coded, bit-packed, trainable, and priced."""

from snap_jax import cost as cost
from snap_jax import mesh as mesh
from snap_jax.codecs import Codec as Codec
from snap_jax.collectives import all_gather as all_gather
from snap_jax.collectives import ppermute as ppermute
from snap_jax.collectives import psum as psum
from snap_jax.collectives import psum_scatter as psum_scatter
from snap_jax.encodings import Count as Count
from snap_jax.encodings import Float as Float
from snap_jax.encodings import Integer as Integer
from snap_jax.encodings import Latency as Latency
from snap_jax.encodings import Phase as Phase
from snap_jax.encodings import Rate as Rate
from snap_jax.encodings import Ternary as Ternary
from snap_jax.errors import UsageError as UsageError
from snap_jax.nn import Boundary as Boundary
from snap_jax.traffic import Traffic as Traffic
from snap_jax.traffic import Transfer as Transfer
from snap_jax.traffic import assert_wire as assert_wire
from snap_jax.traffic import trace as trace
from snap_jax.traffic import trace_compiled as trace_compiled
from snap_jax.wires import Bitmap as Bitmap
from snap_jax.wires import Events as Events
from snap_jax.wires import Ladder as Ladder
from snap_jax.wires import Packed as Packed
from snap_jax.wires import Ticks as Ticks
