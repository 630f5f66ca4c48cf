"""What ASTRA-sim's analytical backend answers, in closed form, to the nanosecond: an independent judge of the exports.

With n ranks, one dimension, C splits one after another, d the endpoint delay, M the local memory
bandwidth in bytes a nanosecond, L the latency of a link, B its bandwidth in bytes a nanosecond (ASTRA-sim
reads GB/s as GiB/s). Then

    ring     T = C (d + k (f(m) + d) + r)     k = 2(n-1) all-reduce, n(n-1)/2 all-to-all, n-1 otherwise
    direct   T = C (d + p (f(m) + d) + r)     p = 2 all-reduce, 1 otherwise

with messages of m = S/(C n) bytes (all-gather: S/C), r = 3 floor(m/M) a reduction: n-1 reductions on a
ring, one when direct, none for all-gather and all-to-all, and f the time of a message:

    congestion unaware   floor(hops L + m/B)
    congestion aware     hops floor(L + m/B), store and forward
                         2 floor(L + m/B) + (n-2) floor(m/B), direct on a switch

with 1 hop on a ring and fully connected, 2 through a switch. Every division of sizes rounds down to bytes.
Agreement with ASTRA-sim is not agreement with hardware: its own error on H100 all-reduces is 10-21 %
(geometric mean).
"""

import math

from snap_jax.cost.units import CostError, Number

_COLLECTIVES = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all")
_CLOSED_FORMS = {"ring": ("Ring", "FullyConnected", "Switch"), "direct": ("FullyConnected", "Switch")}


def collective_time_ns(
    collective: str,
    algorithm: str,
    topology: str,
    ranks: int,
    comm_size: int,
    *,
    bandwidth_gib_s: Number,
    latency_ns: Number,
    splits: int = 1,
    endpoint_delay_ns: int = 10,
    local_mem_gb_s: Number = 1e6,
    congestion_aware: bool = True,
) -> int:
    """Nanoseconds from the start of one collective to its end, as ASTRA-sim counts them.

    Args:
      collective: all_reduce, all_gather, reduce_scatter or all_to_all.
      algorithm: ring or direct.
      topology: Ring, FullyConnected or Switch; one dimension.
      ranks: how many take part.
      comm_size: bytes in ASTRA-sim's convention: the shard of one rank for all_gather, the full array
        otherwise.
      bandwidth_gib_s: of one link; ASTRA-sim's "GB/s" is 2^30 bytes a second.
      latency_ns: of one link.
      splits: `preferred-dataset-splits`, one active chunk at a time.
      endpoint_delay_ns: `endpoint-delay`.
      local_mem_gb_s: `local-mem-bw`, 10^9 bytes a second.
      congestion_aware: which of the two analytical backends.

    Raises:
      CostError: a combination without a closed form, or a parameter out of range.

    >>> collective_time_ns("all_reduce", "ring", "Ring", 8, 8192, bandwidth_gib_s=50, latency_ns=500)
    7416
    """
    _check_closed_form(collective, algorithm, topology, ranks, congestion_aware)
    _check_ranges(comm_size, bandwidth_gib_s, latency_ns, splits, endpoint_delay_ns, local_mem_gb_s)
    chunk, chunks = _chunks(collective, comm_size, splits, ranks)
    message = chunk if collective == "all_gather" else chunk // ranks
    wire = _message_ns(algorithm, topology, ranks, message, bandwidth_gib_s, latency_ns, congestion_aware)
    rounds, reductions = _rounds(collective, algorithm, ranks)
    reduction = 3 * math.floor(message / local_mem_gb_s)
    return chunks * (endpoint_delay_ns + rounds * (wire + endpoint_delay_ns) + reductions * reduction)


def _chunks(collective: str, comm_size: int, splits: int, ranks: int) -> tuple[int, int]:
    """(bytes, count) of the chunks: all are full; outside all-gather none has less than a byte a rank."""
    chunk = comm_size // splits
    if collective != "all_gather" and chunk < ranks:
        return ranks, splits
    if chunk == 0:
        raise CostError(f"collective_time_ns: comm_size={comm_size} is below splits={splits}; use fewer splits")
    return chunk, -(-comm_size // chunk)


def _rounds(collective: str, algorithm: str, ranks: int) -> tuple[int, int]:
    """(messages one after another, reductions one after another)."""
    if algorithm == "direct":
        return (2 if collective == "all_reduce" else 1), int(collective in ("all_reduce", "reduce_scatter"))
    if collective == "all_to_all":
        return ranks * (ranks - 1) // 2, 0
    if collective == "all_gather":
        return ranks - 1, 0
    return (2 if collective == "all_reduce" else 1) * (ranks - 1), ranks - 1


def _message_ns(
    algorithm: str, topology: str, ranks: int, message: int, gib_s: Number, latency_ns: Number, aware: bool
) -> int:
    hops = 2 if topology == "Switch" else 1
    serialization = message / (gib_s * 2**30 / 1e9)
    if not aware:
        return math.floor(hops * latency_ns + serialization)
    queued = ranks - 2 if (algorithm, topology) == ("direct", "Switch") else 0
    return hops * math.floor(latency_ns + serialization) + queued * math.floor(serialization)


def _check_closed_form(collective: str, algorithm: str, topology: str, ranks: int, aware: bool) -> None:
    if collective not in _COLLECTIVES:
        raise CostError(f"collective_time_ns: collective={collective!r}; want one of {', '.join(_COLLECTIVES)}")
    if topology not in _CLOSED_FORMS.get(algorithm, ()):
        known = "; ".join(f"{name} on {', '.join(shapes)}" for name, shapes in _CLOSED_FORMS.items())
        raise CostError(
            f"collective_time_ns: no closed form for algorithm={algorithm!r} on topology={topology!r}; "
            f"known: {known}. "
            "For the rest export the trace (snap_jax.cost.chakra) and run ASTRA-sim"
        )
    if ranks < 2 or (ranks == 2 and topology == "Ring" and aware):
        least = 3 if topology == "Ring" and aware else 2
        raise CostError(f"collective_time_ns: ranks={ranks} on {topology}; want at least {least}, as ASTRA-sim does")


def _check_ranges(
    comm_size: int, gib_s: Number, latency_ns: Number, splits: int, endpoint_ns: int, mem_gb_s: Number
) -> None:
    for name, value, least in (
        ("comm_size", comm_size, 1),
        ("splits", splits, 1),
        ("endpoint_delay_ns", endpoint_ns, 1),
    ):
        if value != int(value) or value < least:
            raise CostError(f"collective_time_ns: {name}={value}; want a whole number of at least {least}")
    for name, value in (("bandwidth_gib_s", gib_s), ("local_mem_gb_s", mem_gb_s)):
        if not 0 < value < math.inf:
            raise CostError(f"collective_time_ns: {name}={value}; want more than 0")
    if not 0 <= latency_ns < math.inf:
        raise CostError(f"collective_time_ns: latency_ns={latency_ns}; want 0 or more")
