"""Run the same spikes in SANA-FE, a simulator of neuromorphic chips, which the user installs: `pip install sanafe`.

SANA-FE is under the GPL. This module does not import it: give it the module, `simulate(flows, sanafe)`.
"""

import dataclasses
from collections.abc import Iterable
from types import ModuleType
from typing import Literal, final

from snap_jax.cost.address_events import Core
from snap_jax.cost.topologies.grid import chip_at
from snap_jax.cost.units import CostError, Joules, Seconds

_SHAPE = (8, 4)


@final
@dataclasses.dataclass(frozen=True)
class Simulated:
    """What SANA-FE found for one time step.

    Attributes:
      network_j: energy of all packets.
      ways: (source, target, seconds on the way) of each packet.
    """

    network_j: Joules
    ways: tuple[tuple[Core, Core, Seconds], ...]


def simulate(
    flows: Iterable[tuple[Core, Core]], sanafe: ModuleType, timing: Literal["simple", "detailed"] = "simple"
) -> Simulated:
    """Return what SANA-FE's Loihi does with one spike for each (source core, target core).

    Args:
      flows: (x, y) of the sending and of the receiving core.
      sanafe: the imported module.
      timing: "simple" leaves out contention; "detailed" counts the time a packet is blocked.

    Raises:
      CostError: a module that is not SANA-FE, or a core outside of the chip.
    """
    pairs = list(flows)
    if sanafe.__name__ != "sanafe":
        raise CostError(f"simulate: module {sanafe.__name__!r}; want sanafe: pip install sanafe, import sanafe")
    for x, y in (core for pair in pairs for core in pair):
        if not (0 <= x < _SHAPE[0] and 0 <= y < _SHAPE[1]):
            raise CostError(f"simulate: no core ({x}, {y}); the chip has {_SHAPE[0]} x {_SHAPE[1]}")
    arch = sanafe.load_loihi()
    chip = sanafe.SpikingChip(arch)
    chip.load(_network(pairs, arch, sanafe))
    found = chip.sim(1, timing_model=timing, message_trace=True, processing_threads=1)
    ways = [_way(message) for message in found["message_trace"][0] if not message["placeholder"]]
    return Simulated(Joules.exactly(found["energy"]["network"]), tuple(ways))


def _network(pairs: list[tuple[Core, Core]], arch, sanafe: ModuleType):
    net = sanafe.Network()
    source = net.create_neuron_group("source", len(pairs), model_attributes={"threshold": 0.5, "bias": 1.0})
    target = net.create_neuron_group("target", len(pairs), model_attributes={"threshold": 1e9})
    for k, (here, there) in enumerate(pairs):
        source.neurons[k].map_to_core(arch.tiles[chip_at(_SHAPE, here)].cores[0])
        target.neurons[k].map_to_core(arch.tiles[chip_at(_SHAPE, there)].cores[1])
        source.neurons[k].connect_to_neuron(target.neurons[k], {"weight": 1.0})
    return net


def _way(message) -> tuple[Core, Core, Seconds]:
    seconds = message["network_delay"] + message["blocking_delay"]
    ends = (message["src_x"], message["src_y"]), (message["dest_x"], message["dest_y"])
    return (*ends, Seconds.exactly(seconds))
