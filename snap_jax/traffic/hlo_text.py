"""Parse the text of a compiled HLO module line by line; nothing here knows what a collective is.

A module consists of computations, a computation of lines `name = type opcode(operands), attribute=value, ...`.
"""

import ast
import dataclasses
import json
import math
from typing import Any

from snap_jax.errors import UsageError
from snap_jax.traffic.text import split, top_level

# HLO element type -> name in numpy or ml_dtypes, and bits.
_DTYPES = {
    "pred": ("bool", 8),
    "c64": ("complex64", 64),
    "c128": ("complex128", 128),
    "bf16": ("bfloat16", 16),
    **{f"s{n}": (f"int{n}", max(n, 8)) for n in (1, 2, 4, 8, 16, 32, 64)},
    **{f"u{n}": (f"uint{n}", max(n, 8)) for n in (1, 2, 4, 8, 16, 32, 64)},
    **{f"f{n}": (f"float{n}", n) for n in (16, 32, 64)},
    **{f"f8{kind}": (f"float8_{kind}", 8) for kind in ("e3m4", "e4m3", "e4m3fn", "e4m3fnuz", "e4m3b11fnuz")},
    **{f"f8{kind}": (f"float8_{kind}", 8) for kind in ("e5m2", "e5m2fnuz", "e8m0fnu")},
    "f4e2m1fn": ("float4_e2m1fn", 8),
}
_CALLED = (
    "calls",
    "to_apply",
    "condition",
    "body",
    "branch_computations",
    "true_computation",
    "false_computation",
    "called_computations",
)


@dataclasses.dataclass(frozen=True)
class Array:
    """Dtype, shape and bytes of one operand on one device."""

    dtype: str
    shape: tuple[int, ...]
    bytes: int


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One line of a computation."""

    name: str
    opcode: str
    operands: tuple[str, ...]
    attributes: dict[str, str]
    result: str

    @property
    def called(self) -> dict[str, list[str]]:
        """Attribute -> the computations it names."""
        found = {key: self.attributes[key] for key in _CALLED if key in self.attributes}
        return {key: [_bare(n) for n in value.strip("{}").split(",")] for key, value in found.items()}

    @property
    def op_name(self) -> str:
        """Name stack that JAX left in the metadata; empty if the compiler made the instruction."""
        for item in split(self.attributes.get("metadata", "{}")[1:-1], " "):
            key, _, value = item.partition("=")
            if key == "op_name":
                return ast.literal_eval(value)
        return ""

    @property
    def trip_count(self) -> int | None:
        """How often a while loop runs; None if the compiler does not know."""
        known = self._config.get("known_trip_count")
        return int(known["n"]) if known else None

    @property
    def wraps(self) -> bool:
        """Whether the counter of a loop would pass the largest number of its dtype: XLA's trip count ignores that.

        >>> config = '{"known_induction_variable":{"tuple_index":"0"},"known_init_step":{"init":"0","step":"3"},'
        >>> line = f'(s8[]) while(%t), backend_config={config}"known_trip_count":{{"n":"43"}}}}'
        >>> parse_instruction("w", line).wraps  # 43 * 3 is more than 127
        True
        """
        numbers, counter = (self._config.get(key) for key in ("known_init_step", "known_induction_variable"))
        if self.trip_count is None or not numbers or not counter:
            return False
        kind = _bare(split(self.result[1:-1], ",")[int(counter["tuple_index"])]).partition("[")[0]
        if kind[0] not in "su" or not kind[1:].isdigit():
            return False
        last = int(numbers["init"]) + int(numbers["step"]) * self.trip_count
        return last >= 2 ** (int(kind[1:]) - (kind[0] == "s"))

    @property
    def _config(self) -> dict[str, Any]:
        config: Any = json.loads(self.attributes.get("backend_config", "{}"))
        # Older compilers write the configuration as a quoted string.
        return json.loads(config) if isinstance(config, str) else config


@dataclasses.dataclass(frozen=True)
class Module:
    """All computations: name -> instruction name -> the rest of its line. `devices` run it together."""

    computations: dict[str, dict[str, str]]
    entry: str
    devices: int

    def array(self, computation: str, name: str) -> Array:
        """Return what an instruction produces.

        Raises:
          UsageError: it is a tuple, or its size is known only at run time.
        """
        return parse_array(_type_and_rest(self.computations[computation][name])[0])


def parse_module(text: str) -> Module:
    """Return the module that a text describes.

    Raises:
      UsageError: the text is not that of an HLO module.
    """
    computations: dict[str, dict[str, str]] = {}
    entry, header, current = "", "", None
    for line in text.splitlines():
        name, equals, rest = line.strip().partition(" = ")
        if line.startswith("HloModule"):
            header = line
        elif line.startswith("}"):
            current = None
        elif line.endswith("{") and not equals:
            current = computations.setdefault(_header_name(line), {})
            entry = _header_name(line) if line.startswith("ENTRY") else entry
        elif current is not None and equals:
            current[_bare(name.removeprefix("ROOT "))] = rest
    if not header or not entry:
        raise UsageError(f"compiled_traffic: no HloModule with an ENTRY in {text[:60]!r}...: pass as_text()")
    return Module(computations, entry, _devices(header))


def parse_instruction(name: str, rest: str) -> Instruction:
    """Return the instruction that the text to the right of `name = ` describes.

    >>> parse_instruction("r", "f32[8]{0} all-reduce(%a, %b), channel_id=1, to_apply=%sum").operands
    ('a', 'b')
    """
    result, call = _type_and_rest(rest)
    opcode, _, _ = call.partition("(")
    operands, *attributes = split(call.removeprefix(opcode), ",")
    pairs = (a.strip().partition("=") for a in attributes)
    named = (_bare(o) for o in split(operands.strip()[1:-1], ","))
    return Instruction(name, opcode, tuple(n for n in named if n), {key: value for key, _, value in pairs}, result)


def parse_array(text: str) -> Array:
    """Return the array that a type describes.

    >>> parse_array("bf16[2,3]{1,0}")
    Array(dtype='bfloat16', shape=(2, 3), bytes=12)
    """
    element, _, rest = text.partition("[")
    dimensions, bracket, layout = rest.partition("]")
    if element not in _DTYPES or not bracket or set(dimensions) - set("0123456789,"):
        raise UsageError(
            f"compiled_traffic: a collective sends {text!r}, whose size is unknown: "
            "send arrays of static shape and of numpy's or ml_dtypes' types"
        )
    dtype, bits = _DTYPES[element]
    # Elements smaller than a byte are packed only where the layout says so: E(4) is four bits each.
    bits = int(layout.partition("E(")[2].partition(")")[0] or bits)
    shape = tuple(int(d) for d in dimensions.split(",") if d)
    return Array(dtype, shape, -(-math.prod(shape) * bits // 8))


def _type_and_rest(rest: str) -> tuple[str, str]:
    space = top_level(rest, " ")[0]
    return rest[:space], rest[space + 1 :]


def _bare(name: str) -> str:
    """Name without its percent sign, the comment before it, and the type that some printers repeat."""
    words = name.rpartition("*/")[2].split()
    return words[-1].removeprefix("%") if words else ""


def _header_name(line: str) -> str:
    return _bare(line.removeprefix("ENTRY ").partition("(")[0].rstrip(" {"))


def _devices(header: str) -> int:
    """Devices that run the module together: replicas times partitions."""
    pairs = (item.strip().partition("=") for item in split(header, ","))
    counts = {key: value for key, _, value in pairs}
    return int(counts.get("replica_count", 1)) * int(counts.get("num_partitions", 1))
