"""Traffic: what a program moves between chips; as written, as compiled, and on the wire."""

from snap_jax.traffic.check import FloatCollectiveError as FloatCollectiveError
from snap_jax.traffic.check import assert_no_float_collectives as assert_no_float_collectives
from snap_jax.traffic.hlo import compiled_traffic as compiled_traffic
from snap_jax.traffic.interface import Meter as Meter
from snap_jax.traffic.interface import interface_bytes as interface_bytes
from snap_jax.traffic.jaxpr import collective_traffic as collective_traffic
from snap_jax.traffic.transfer import Choice as Choice
from snap_jax.traffic.transfer import Traffic as Traffic
from snap_jax.traffic.transfer import Transfer as Transfer
