"""What a saving on the links is worth in the whole, as a function of the energy of arithmetic.

With E joules on the links, e with coded links and n multiply-accumulates of c joules,

    share of the links    s = E / (E + n c)
    Amdahl limit          1 / (1 - s)
    factor saved          f = (E + n c) / (e + n c)
    f is reached          up to c = (E - f e) / ((f - 1) n), if E / e > f

and the same for time, with arithmetic that takes n / (devices x rate). E and e are prices of a `Workload`, so they
depend on its width, devices, bits and layout, and on the link.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import final

from rich.console import RenderableType

from snap_jax.cost import links
from snap_jax.cost.link import Link
from snap_jax.cost.pricing import price
from snap_jax.cost.report import Report
from snap_jax.cost.sweep import scaled
from snap_jax.cost.system import System
from snap_jax.cost.tables import Printable, table
from snap_jax.cost.topologies import Chain, Topology
from snap_jax.cost.units import CostError, Number
from snap_jax.cost.workload import Variant, Workload

CLAIM = {"energy": 5.3, "latency": 15.2}
"""Factors of arXiv:2501.08645, abstract: "up to"."""

REACHES: dict[str, Link] = {
    "die-to-die": links.UCIE_STANDARD,
    "board": links.PCIE5,
    "rack": links.OPTICS_400G,
    "wide-area": links.INTERNET_200M,
}
"""A link of each reach whose energy has a source."""


@final
@dataclasses.dataclass(frozen=True)
class Balance:
    """Costs of dense and of coded links beside so many operations; joules or seconds.

    Attributes:
      dense: cost of the dense links.
      coded: cost of the coded links.
      operations: multiply-accumulates, of all devices for energy, of one device for time.

    >>> Balance(dense=16.0, coded=1.0, operations=1).saved(0.0)
    16.0
    """

    dense: Number
    coded: Number
    operations: Number

    def share(self, each: Number) -> Number:
        """Return the share of the dense links when an operation costs `each`."""
        return self.dense / (self.dense + self.operations * each)

    def limit(self, each: Number) -> Number:
        """Return the factor that free links would save."""
        return 1 / (1 - self.share(each)) if each else float("inf")

    def saved(self, each: Number) -> Number:
        """Return the factor that coded links save."""
        return (self.dense + self.operations * each) / (self.coded + self.operations * each)

    def most(self, factor: Number) -> Number | None:
        """Return the highest cost of an operation at which `factor` is saved; None if links alone do not reach it."""
        if self.dense <= factor * self.coded:
            return None
        return (self.dense - factor * self.coded) / ((factor - 1) * self.operations)


def energy_balance(
    workload: Workload, topology: Callable[[int], Topology], coded_bits: Number, worst: bool = True
) -> Balance:
    """Return the balance of energy of a workload whose links carry `coded_bits` per element instead of `bits`.

    Raises:
      CostError: the energy of a bit has no source.
    """
    dense, coded = (_links(workload, topology, bits).energy_j for bits in (workload.bits, coded_bits))
    macs = workload.operations("dense").times("mac")
    return Balance(dense.high, coded.high, macs) if worst else Balance(dense.low, coded.low, macs)


def time_balance(workload: Workload, topology: Callable[[int], Topology], coded_bits: Number) -> Balance:
    """Return the balance of time, with the best figures of the link. Raises CostError without a source."""
    dense, coded = (_links(workload, topology, bits).no_overlap_s for bits in (workload.bits, coded_bits))
    return Balance(dense.low, coded.low, workload.operations("dense").times("mac") / workload.chips)


def _links(workload: Workload, topology: Callable[[int], Topology], bits: Number) -> Report:
    variant: Variant = "dense"
    system = System({workload.axis: scaled(topology(workload.chips), workload.bandwidth)})
    return price(dataclasses.replace(workload, bits=bits).traffic(variant), system)


@final
@dataclasses.dataclass(frozen=True)
class Thresholds(Printable):
    """How little a multiply-accumulate may take for a factor of the whole, by reach and width; prints as a table.

    Attributes:
      workload: what is computed and sent, apart from its width.
      coded_bits: bits per element of the coded links.
      widths: widths of the model.
    """

    workload: Workload
    coded_bits: Number
    widths: Sequence[int] = (64, 1024, 8192)
    text_width = 120

    def balance(self, reach: str, width: int) -> Balance:
        """Return the balance of energy on one reach, with the highest figure of its link."""
        link = REACHES[reach]
        workload = dataclasses.replace(self.workload, width=width)
        return energy_balance(workload, lambda n: Chain(n, link), self.coded_bits)

    def render(self) -> Iterator[RenderableType]:
        rows = []
        for reach in REACHES:
            for width in self.widths:
                balance = self.balance(reach, width)
                most = [_picojoules(balance.most(factor)) for factor in CLAIM.values()]
                shares = f"{balance.share(0.59e-12):.2%}", f"{balance.saved(0.59e-12):.3f}"
                rows.append((reach, f"{width:,}", *most, *shares))
        heads = (*(f"{factor}x up to, pJ/MAC" for factor in CLAIM.values()), "link share", "factor saved")
        title = "Energy of the whole: what coded links save"
        yield table(title, ("reach", "width", *heads), rows)
        yield "; ".join(f"{reach}: {link.name}" for reach, link in REACHES.items())
        bits = f"{self.workload.bits:g} against {self.coded_bits:g} bits per element"
        yield f"{bits}; share and factor at 0.59 pJ: bfloat16 at 7 nm, sums in float32"


def _picojoules(joules: Number | None) -> str:
    return "never" if joules is None else f"{joules * 1e12:.3g}"


def reached(balance: Balance, factor: Number, picojoules: Number) -> bool:
    """Return whether a factor of the whole is saved when a multiply-accumulate takes so many picojoules.

    >>> reached(Balance(16.0, 1.0, 1), 5.3, 1e12)
    True
    """
    if picojoules < 0:
        raise CostError(f"reached: picojoules={picojoules}; want 0 or more")
    most = balance.most(factor)
    return most is not None and picojoules * 1e-12 <= most
