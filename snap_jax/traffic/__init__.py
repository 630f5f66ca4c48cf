"""Traffic: what a program moves between chips; as written, as compiled, and on the wire."""

from snap_jax.traffic.check import WireError as WireError
from snap_jax.traffic.check import assert_wire as assert_wire
from snap_jax.traffic.hlo import trace_compiled as trace_compiled
from snap_jax.traffic.jaxpr import trace as trace
from snap_jax.traffic.meter import Meter as Meter
from snap_jax.traffic.meter import interface_bytes as interface_bytes
from snap_jax.traffic.transfer import Choice as Choice
from snap_jax.traffic.transfer import Traffic as Traffic
from snap_jax.traffic.transfer import Transfer as Transfer
