"""Ask what the same all_gather costs on three networks, with floats and with spikes."""

import jax
import jax.numpy as jnp
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

import snap_jax as snap
from snap_jax.cost import CostError, Ring, Switch, System, links, price

snap.emulate_devices(4)
mesh = jax.make_mesh((4,), ("device",), axis_types=(AxisType.Auto,))
x = jnp.ones((4096, 1024))
systems = {
    "chiplets, UCIe": System({"device": Ring(4, links.UCIE_STANDARD)}),
    "a board, PCIe 5": System({"device": Switch(4, links.PCIE5)}),
    "hosts, Ethernet 400G": System({"device": Switch(4, links.OPTICS_400G)}),
}


def traffic(spec):
    """Return what gathering `x` with a codec sends."""
    gather = lambda x: snap.all_gather(x, "device", codec=spec, tiled=True)
    return snap.collective_traffic(jax.shard_map(gather, mesh=mesh, in_specs=P("device"), out_specs=P("device")))(x)


def known(report, name):
    """Return a figure of a report, unless a link has no source for it."""
    try:
        return getattr(report, name)
    except CostError:
        return "no source"


for name, system in systems.items():
    for spec in ("bf16", "count:3"):
        report = price(traffic(spec), system)
        print(f"{name:20} {spec:8} {known(report, 'energy_j')} | {known(report, 'latency_s')}")
