"""How long a message must be before its bytes decide the time, and before it pays to code it.

A collective takes L + s S seconds for S operand bytes. Its half size is L / s: there latency takes as long as the
bytes. Coding to a fraction r of the bytes pays above

    S* = (L' + A - L) / (s - r (s' + c))

with L', s' of the coded collective, A the time to agree on a size bucket and c the time to encode and decode a payload
byte. If the divisor is not positive it never pays. Packet headers are left out. Where the bytes hide the latency
(algorithm "axes") the sum is an upper bound of the time.
"""

import dataclasses
from typing import Literal, final

from snap_jax.cost.algorithms import REDUCTIONS, Algorithm, Plan, default_algorithm, plan
from snap_jax.cost.system import Coding
from snap_jax.cost.topologies import Topology
from snap_jax.cost.topologies.base import shift
from snap_jax.cost.units import CostError, Number, Range, Seconds
from snap_jax.traffic.transfer import Transfer

Figures = Literal["best", "worst"]
_BYTES = 1_000_000


@final
@dataclasses.dataclass(frozen=True)
class Line:
    """Seconds = latency_s + s_per_byte x operand bytes."""

    latency_s: Number
    s_per_byte: Number


def line(op: str, topology: Topology, figures: Figures, algorithm: Algorithm | None = None) -> Line:
    """Return latency and time per byte of a collective, with the best or worst figures. CostError without a source."""
    rounds = plan(op, _BYTES, topology, algorithm or default_algorithm(topology, op), shift(topology.size))
    return Line(*(_pick(part, figures) for part in _parts(rounds)))


def half_size_bytes(op: str, topology: Topology, algorithm: Algorithm | None = None) -> Range:
    """Return the operand bytes at which latency takes as long as the bytes do: L / s.

    >>> from snap_jax.cost import Ring, links
    >>> half_size_bytes("all_gather", Ring(4, links.ICI_V5E))
    Range(low=45000.0, high=45000.0)
    """
    found = [line(op, topology, figures, algorithm) for figures in ("best", "worst")]
    return Range(*sorted(round(one.latency_s / one.s_per_byte, 3) for one in found))


def break_even_bytes(
    op: str, topology: Topology, ratio: Number, coding: Coding | None = None, agreement_bytes: int = 4
) -> Range:
    """Return the dense operand bytes above which the coded collective is faster.

    Args:
      op: its `jax.lax` name; a coded psum is an all_to_all and an all_gather.
      topology: how the chips are wired.
      ratio: payload bytes divided by dense bytes.
      coding: time to encode and decode; None counts none.
      agreement_bytes: operand of the pmax by which chips agree on a size bucket; 0 for a wire of fixed size.

    Raises:
      CostError: coding never pays, or a figure of the link has no source.

    >>> from snap_jax.cost import Ring, links
    >>> break_even_bytes("all_gather", Ring(4, links.ICI_V5E), ratio=1 / 16)
    Range(low=96002.1, high=96002.1)
    """
    found = [_break_even(op, topology, ratio, coding, agreement_bytes, figures) for figures in ("best", "worst")]
    return Range(*sorted(found))


def _break_even(
    op: str, topology: Topology, ratio: Number, coding: Coding | None, agreement_bytes: int, figures: Figures
) -> Number:
    dense, coded = line(op, topology, figures), _coded(op, topology, figures)
    agree = line("pmax", topology, figures)
    extra = coded.latency_s - dense.latency_s
    if agreement_bytes:
        extra += agree.latency_s + agree.s_per_byte * agreement_bytes
    saved = dense.s_per_byte - ratio * (coded.s_per_byte + _coding_s_per_byte(op, topology, coding, figures))
    if saved <= 0:
        raise CostError(
            f"break_even_bytes: a coded {op} at ratio={ratio:g} never pays with the {figures} figures of "
            f"{topology.link.name!r}: a dense byte takes {dense.s_per_byte:.3g} s, "
            f"coded {dense.s_per_byte - saved:.3g} s"
        )
    return max(0.0, round(extra / saved, 1))


def _coded(op: str, topology: Topology, figures: Figures) -> Line:
    if op not in REDUCTIONS:
        return line(op, topology, figures)
    first, second = line("all_to_all", topology, figures), line("all_gather", topology, figures)
    slope = first.s_per_byte + second.s_per_byte / topology.size
    return Line(first.latency_s + second.latency_s, slope)


def _coding_s_per_byte(op: str, topology: Topology, coding: Coding | None, figures: Figures) -> Number:
    if coding is None:
        return 0.0
    ops = {"all_to_all": 1.0, "all_gather": 1 / topology.size} if op in REDUCTIONS else {op: 1.0}
    moved = (
        Transfer(part, ("x",), topology.size, coding.dtypes[0], round(_BYTES * share)) for part, share in ops.items()
    )
    return sum(_pick(coding.seconds(one), figures) for one in moved) / _BYTES


def _parts(plan: Plan) -> tuple[Seconds, Seconds]:
    latency = Seconds.total(rounds.latency() for rounds in plan)
    return latency, Seconds.total(rounds.bare().serialization() for rounds in plan) * (1 / _BYTES)


def _pick(time: Seconds, figures: Figures) -> Number:
    return time.low if figures == "best" else time.high
