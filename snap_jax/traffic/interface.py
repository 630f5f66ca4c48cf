"""What crossed in fact: the counters that the kernel keeps of each network interface.

This checks invariant 4 for programs of several processes. On `lo` every byte counts as sent and as received. Other
programs on the machine count, too: measure on an idle interface or on one of your own.
"""

import dataclasses
import sys
from pathlib import Path
from types import TracebackType

from snap_jax.errors import UsageError

_COUNTERS = Path("/proc/net/dev")


def interface_bytes(name: str = "lo") -> dict[str, int]:
    """Return the bytes an interface has received (`rx`) and sent (`tx`) since it came up.

    Raises:
      UsageError: this is not Linux, or there is no interface of this name.

    >>> sorted(interface_bytes("lo"))
    ['rx', 'tx']
    """
    try:
        lines = _COUNTERS.read_text().splitlines()
    except OSError as error:
        raise UsageError(
            f"interface_bytes: cannot read {_COUNTERS} on {sys.platform!r} ({error.strerror}): "
            "only Linux has these counters; elsewhere use compiled_traffic"
        ) from error
    # Two lines of heading, then `name: rx_bytes, 7 more of receiving, tx_bytes, ...`.
    rows = {head.strip(): rest.split() for head, _, rest in (line.partition(":") for line in lines[2:])}
    if name not in rows:
        raise UsageError(f"interface_bytes: no interface {name!r}: use one of {sorted(rows)}")
    return {"rx": int(rows[name][0]), "tx": int(rows[name][8])}


@dataclasses.dataclass
class Meter:
    """Count the bytes that pass an interface between enter and exit.

    Attributes:
      interface: name of the interface.
      rx_bytes: bytes received; None until exit.
      tx_bytes: bytes sent; None until exit.

    >>> with Meter("lo") as meter:
    ...     pass
    >>> meter.tx_bytes >= 0
    True
    """

    interface: str = "lo"
    rx_bytes: int | None = None
    tx_bytes: int | None = None
    _before: dict[str, int] = dataclasses.field(default_factory=dict, init=False, repr=False)

    def __enter__(self) -> "Meter":
        self._before = interface_bytes(self.interface)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        after = interface_bytes(self.interface)
        self.rx_bytes, self.tx_bytes = (after[key] - self._before[key] for key in ("rx", "tx"))
