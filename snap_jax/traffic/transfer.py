"""What each collective of a program moves. This module does not import JAX, so that `cost` and other tools can read it.

The bytes claimed here are the bytes of the collective in the compiled program (invariant 4).
"""

import dataclasses
import itertools
import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal

from snap_jax.traffic.text import table

Direction = Literal["forward", "backward"]
Pairs = tuple[tuple[int, int], ...]

# Bytes that leave devices in one group of n, operand of b bytes on each device, by the bandwidth-optimal
# algorithm (Thakur et al. 2005; nccl-tests PERFORMANCE.md; a broadcast is a pipeline through all members).
# A ppermute sends its operand once for each (source, target) pair.
_SENT: dict[str, Callable[[int, int], int]] = {
    "all_gather": lambda n, b: n * (n - 1) * b,
    "psum": lambda n, b: 2 * (n - 1) * b,
    "pmax": lambda n, b: 2 * (n - 1) * b,
    "pmin": lambda n, b: 2 * (n - 1) * b,
    "psum_scatter": lambda n, b: (n - 1) * b,
    "all_to_all": lambda n, b: (n - 1) * b,
    "pbroadcast": lambda n, b: (n - 1) * b,
}


@dataclasses.dataclass(frozen=True)
class Transfer:
    """One collective of a program.

    Attributes:
      op: `jax.lax` name of the collective.
      axes: mesh axes it runs over; empty when only compiled HLO was read and no mesh was given.
      group_size: devices that take part in one group.
      dtype: element type of the operand, as numpy names it.
      bytes: operand bytes on one device, one execution.
      times: executions in one run of the program (trip counts multiplied).
      path: `jax.named_scope` path of the operation.
      direction: whether it belongs to the forward or to the backward pass.
      shape: operand shape on one device.
      groups: how many groups run side by side on the mesh.
      pairs: for `ppermute`, how many (source, target) pairs with source != target there are in one group.
      perm: those pairs, as positions in the group; empty if unknown.
    """

    op: str
    axes: tuple[str, ...]
    group_size: int
    dtype: str
    bytes: int
    times: int = 1
    path: str = ""
    direction: Direction = "forward"
    shape: tuple[int, ...] = ()
    groups: int = 1
    pairs: int = 0
    perm: Pairs = ()

    @property
    def sent_bytes(self) -> int:
        """Bytes that leave all devices together in one run of the program.

        >>> Transfer("all_gather", ("x",), group_size=4, dtype="uint8", bytes=10).sent_bytes
        120
        >>> Transfer("ppermute", ("x",), group_size=4, dtype="uint8", bytes=10, times=5, pairs=3).sent_bytes
        150
        """
        if self.op == "ppermute":
            return self.pairs * self.bytes * self.groups * self.times
        return _SENT[self.op](self.group_size, self.bytes) * self.groups * self.times


@dataclasses.dataclass(frozen=True)
class Traffic:
    """All transfers of one program; behaves like a tuple of `Transfer`.

    Attributes:
      transfers: what one run moves; of every `cond` or `switch`, the branch that sends most, or all of them
        where a schedule tells that stages of a pipeline take them.
      choices: the conds and switches of which one branch counts, with the traffic of every branch.
    """

    transfers: tuple[Transfer, ...] = ()
    choices: tuple["Choice", ...] = ()

    def __iter__(self) -> Iterator[Transfer]:
        return iter(self.transfers)

    def __len__(self) -> int:
        return len(self.transfers)

    def __getitem__(self, index: int) -> Transfer:
        return self.transfers[index]

    def where(self, keep: Callable[[Transfer], bool]) -> "Traffic":
        """Return the transfers for which `keep` holds, in every branch of every choice."""
        kept = tuple(dataclasses.replace(c, branches=tuple(b.where(keep) for b in c.branches)) for c in self.choices)
        return Traffic(tuple(t for t in self.transfers if keep(t)), kept)

    @property
    def sent_bytes(self) -> int:
        """Bytes that leave all devices together in one run of the program that takes the costliest branches."""
        return sum(t.sent_bytes for t in self.transfers)

    @property
    def least_sent_bytes(self) -> int:
        """The same bytes in a run that takes the cheapest branch of every `cond` and `switch`.

        >>> from snap_jax.traffic.branch_choice import choose
        >>> long, short = (Traffic((Transfer("psum", ("x",), 2, "uint8", n),)) for n in (80, 10))
        >>> both = choose("layer", [short, long])
        >>> both.sent_bytes, both.least_sent_bytes
        (160, 20)
        """
        saved = (c.branches[c.counted].sent_bytes - c.least_sent_bytes for c in self.choices)
        return self.sent_bytes - sum(saved)

    def possible(self) -> Iterator[Transfer]:
        """Yield every transfer that some run may make: these, and those of the branches not counted."""
        yield from self.transfers
        for choice in self.choices:
            yield from choice.others()

    def to_json(self) -> str:
        """Return JSON text that `from_json` reads back."""
        return json.dumps(dataclasses.asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str, where: str = "traffic") -> "Traffic":
        """Return the traffic that `to_json` wrote; `where` is the file, for messages.

        Raises:
          UsageError: names the field that is wrong.

        >>> t = Traffic((Transfer("psum", ("x",), 2, "float32", 8, shape=(2,)),))
        >>> Traffic.from_json(t.to_json()) == t
        True
        """
        from snap_jax.traffic import traffic_file  # imports pydantic, which only files need

        return _traffic(traffic_file.read(text, where))

    def __str__(self) -> str:
        """Return a table with one line per transfer.

        >>> print(Traffic((Transfer("all_gather", ("x",), 4, "uint8", 16, 5, "net/up", shape=(2, 8)),)))
        op          over   operand     times  sent bytes  direction  path
        all_gather  x (4)  uint8[2,8]      5         960  forward    net/up
        total                                        960
        """
        rows = [_HEAD, *map(_row, self.transfers), _total(self)]
        return table(rows, right=(_HEAD.index("times"), _HEAD.index("sent bytes")))


@dataclasses.dataclass(frozen=True)
class Choice:
    """A `cond` or `switch` with a collective in some branch.

    Attributes:
      path: its `jax.named_scope` path.
      branches: what each branch moves, in the order of the program.
      counted: the branch whose transfers the `Traffic` that holds this choice counts; it sends most.
    """

    path: str
    branches: tuple[Traffic, ...]
    counted: int

    @property
    def least_sent_bytes(self) -> int:
        """Bytes that leave all devices together when the cheapest branch is taken."""
        return min(b.least_sent_bytes for b in self.branches)

    def others(self) -> Iterator[Transfer]:
        """Yield the transfers that some run may make and the enclosing `Traffic.transfers` does not hold."""
        for index, branch in enumerate(self.branches):
            held = len(branch) if index == self.counted else 0
            yield from itertools.islice(branch.possible(), held, None)


def join(parts: Iterable[Traffic]) -> Traffic:
    """Return the traffic of programs that run one after the other."""
    listed = list(parts)
    return Traffic(tuple(t for p in listed for t in p), tuple(c for p in listed for c in p.choices))


_HEAD = ("op", "over", "operand", "times", "sent bytes", "direction", "path")


def _row(t: Transfer) -> tuple[str, ...]:
    over = f"{','.join(t.axes)} ({t.group_size})".strip()
    operand = f"{t.dtype}[{','.join(map(str, t.shape))}]"
    return t.op, over, operand, str(t.times), f"{t.sent_bytes:,}", t.direction, t.path


def _total(traffic: Traffic) -> tuple[str, ...]:
    least, most = traffic.least_sent_bytes, traffic.sent_bytes
    note = f"{least:,} when the cheapest branches are taken" if least < most else ""
    return "total", "", "", "", f"{most:,}", "", note


def _traffic(tree: dict[str, Any]) -> Traffic:
    choices = (Choice(c["path"], tuple(map(_traffic, c["branches"])), c["counted"]) for c in tree["choices"])
    return Traffic(tuple(map(_transfer, tree["transfers"])), tuple(choices))


def _transfer(row: dict[str, Any]) -> Transfer:
    perm = tuple((source, target) for source, target in row.get("perm", ()))
    return Transfer(**row | {"axes": tuple(row["axes"]), "shape": tuple(row["shape"]), "perm": perm})
