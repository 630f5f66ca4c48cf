"""Systems by name, sized by the traffic they are to carry.

Law: a named system takes its sizes from the traffic and everything else from its name; never a guess.
"""

import math
from collections.abc import Callable

from snap_jax.cost import links
from snap_jax.cost.errors import CostError
from snap_jax.cost.system import System
from snap_jax.cost.topologies.base import Topology
from snap_jax.cost.topologies.chain_ring import Chain, Ring
from snap_jax.cost.topologies.switch import Switch
from snap_jax.traffic.transfer import Traffic

# One wiring for every mesh axis; its size is that of the axis.
NAMED: dict[str, Callable[[int], Topology]] = {
    "ucie-ring": lambda n: Ring(n, links.UCIE_STANDARD),
    "ucie-chain": lambda n: Chain(n, links.UCIE_STANDARD),
    "ucie-advanced-ring": lambda n: Ring(n, links.UCIE_ADVANCED),
    "nvlink4-switch": lambda n: Switch(n, links.NVLINK_4),
    "tpu-v5e-ring": lambda n: Ring(n, links.ICI_V5E, bidirectional=True),
    "tpu-v5p-ring": lambda n: Ring(n, links.ICI_V5P, bidirectional=True),
    "pcie5-ring": lambda n: Ring(n, links.PCIE5),
    "infiniband-400g": lambda n: Switch(n, links.INFINIBAND_400G),
    "ethernet-400g": lambda n: Switch(n, links.ETHERNET_400G),
}


def named(name: str, traffic: Traffic) -> System:
    """Return the system of that name, sized for the traffic.

    Raises:
      CostError: an unknown name, or traffic that does not tell how long its axes are.

    >>> from snap_jax.traffic.transfer import Transfer
    >>> named("ucie-ring", Traffic((Transfer("psum", ("die",), 4, "uint8", 8),))).axes["die"].size
    4
    """
    if name not in NAMED:
        raise CostError(f"system {name!r} is not known; want one of {', '.join(NAMED)}, or a path ending in .toml")
    return System({axis: NAMED[name](n) for axis, n in axis_sizes(traffic).items()}, name=name)


def axis_sizes(traffic: Traffic) -> dict[str, int]:
    """Chips along each mesh axis, as far as the transfers tell.

    Raises:
      CostError: an axis that only shows together with another unknown one, or with two sizes.
    """
    sizes: dict[str, int] = {}
    for transfer in sorted(traffic, key=lambda t: len(t.axes)):
        unknown = [axis for axis in transfer.axes if axis not in sizes]
        known = math.prod(sizes[axis] for axis in transfer.axes if axis in sizes)
        if len(unknown) > 1 or not transfer.axes:
            raise CostError(
                f"sizes of axes {unknown} cannot be told from {transfer.op} over {transfer.axes}; "
                "write a system file that gives them"
            )
        if unknown:
            sizes[unknown[0]] = transfer.group_size // known
        if math.prod(sizes[axis] for axis in transfer.axes) != transfer.group_size:
            raise CostError(f"{transfer.op} over {transfer.axes} has {transfer.group_size} chips, others say {sizes}")
    return sizes
