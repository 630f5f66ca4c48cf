"""Rates of links: how they are written, and how the kernel keeps to them."""

import re

from snap_jax.errors import UsageError

UNLIMITED = "unlimited"
_UNITS = {"kbit": 1e3, "mbit": 1e6, "gbit": 1e9}
# What an idle link may send at once, as a time at full rate: it flatters a message by no more than this. From 500
# Mbit/s on it holds one of the blocks of 64 KB that TCP hands over; dividing those takes more time than the link has.
_BURST_SECONDS, _FAST_BURST_SECONDS, _FAST = 250e-6, 1e-3, 500e6
_LEAST_BURST_BYTES = 2 * 1514  # two full Ethernet frames
# What waits in front of a link before it is dropped: more than TCP keeps under way, so nothing is sent twice.
_QUEUE_BYTES = 16_000_000


def bits_per_second(rate: str) -> float | None:
    """Return the rate that a text such as `200mbit` names; None for `unlimited`.

    >>> bits_per_second("200mbit"), bits_per_second("1.5gbit"), bits_per_second("unlimited")
    (200000000.0, 1500000000.0, None)

    Raises:
      UsageError: for anything else.
    """
    if rate == UNLIMITED:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([kmg]bit)", rate)
    if found is None or float(found[1]) == 0:
        raise UsageError(f"lab: --rate {rate!r}: use a number with kbit, mbit or gbit, as in 200mbit; or {UNLIMITED}")
    return float(found[1]) * _UNITS[found[2]]


def burst_bytes(rate: str) -> int:
    """Return how many bytes an idle link of this rate sends at once; 0 for `unlimited`.

    >>> burst_bytes("200mbit"), burst_bytes("1mbit"), burst_bytes("unlimited")
    (6250, 3028, 0)
    """
    bits = bits_per_second(rate)
    if bits is None:
        return 0
    return max(_LEAST_BURST_BYTES, round(bits / 8 * (_FAST_BURST_SECONDS if bits >= _FAST else _BURST_SECONDS)))


def shaping(namespace: str, device: str, rate: str) -> list[str]:
    """Return the command that limits what one device sends, or the one that lifts the limit.

    >>> " ".join(shaping("one", "eth0", "1mbit"))
    'tc -n one qdisc replace dev eth0 root tbf rate 1000000bit burst 3028b limit 16000000b'
    >>> " ".join(shaping("one", "eth0", "unlimited"))
    'tc -n one qdisc replace dev eth0 root noqueue'
    """
    queue = ["tc", "-n", namespace, "qdisc", "replace", "dev", device, "root"]
    bits = bits_per_second(rate)
    if bits is None:
        return [*queue, "noqueue"]
    return [*queue, *f"tbf rate {bits:.0f}bit burst {burst_bytes(rate)}b limit {_QUEUE_BYTES}b".split()]
