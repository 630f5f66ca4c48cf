"""How chips are wired to each other."""

from snap_jax.cost.topologies.base import Topology as Topology
from snap_jax.cost.topologies.graph import Graph as Graph
from snap_jax.cost.topologies.grid import Chain as Chain
from snap_jax.cost.topologies.grid import Mesh as Mesh
from snap_jax.cost.topologies.grid import Ring as Ring
from snap_jax.cost.topologies.grid import Torus as Torus
from snap_jax.cost.topologies.placed import Placed as Placed
from snap_jax.cost.topologies.placed import place as place
from snap_jax.cost.topologies.switch import FullyConnected as FullyConnected
from snap_jax.cost.topologies.switch import Switch as Switch
