"""Read what a program moves between devices: as written (jaxpr), as compiled (HLO), and on the network interface.

This package file does not import JAX, so that `snap_jax.cost` can read `Traffic` without it. The functions that do are
in the modules: `check`, `count_operations`, `hlo`, `interface`, `jaxpr`.
"""

from snap_jax.traffic.transfer import Choice as Choice
from snap_jax.traffic.transfer import Traffic as Traffic
from snap_jax.traffic.transfer import Transfer as Transfer
