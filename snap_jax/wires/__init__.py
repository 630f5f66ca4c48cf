"""Wires: integer spikes <-> packed bytes; exact."""

from snap_jax.wires.base import Shape as Shape
from snap_jax.wires.base import Wire as Wire
from snap_jax.wires.base import pack as pack
from snap_jax.wires.base import slots_for as slots_for
from snap_jax.wires.base import spike_dtype as spike_dtype
from snap_jax.wires.base import unpack as unpack
from snap_jax.wires.bitmap import Bitmap as Bitmap
from snap_jax.wires.bitplanes import Bitplanes as Bitplanes
from snap_jax.wires.events import Events as Events
from snap_jax.wires.ladder import Ladder as Ladder
from snap_jax.wires.packed import Packed as Packed
from snap_jax.wires.rans import Rans as Rans
from snap_jax.wires.row_rans import RowRans as RowRans
from snap_jax.wires.wire_checks import check_wire as check_wire
