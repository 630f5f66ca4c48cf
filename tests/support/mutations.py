"""Break each law on purpose, in a copy, and see which tests fall: `python -m tests.support.mutations [LAW ...]`.

A law that no test defends is a wish. Exits with 1 if a mutant lives.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[1]


class Mutant(NamedTuple):
    law: str
    what: str
    file: str
    old: str
    new: str
    tests: str


MUTANTS = (
    Mutant(
        "1 drop-in",
        "without a codec, add zero",
        "collectives/move.py",
        "plain = functools.partial(lax.ppermute, axis_name=axis_name, perm=perm)",
        "plain = lambda x: lax.ppermute(x + 0, axis_name, perm)",
        "tests/test_laws.py -k law_1",
    ),
    Mutant(
        "2 central",
        "the tangent of x instead of that of quantize(x)",
        "collectives/core.py",
        "return send(codecs, x), plain(dq)",
        "return send(codecs, x), plain(dx)",
        "tests/test_law_table.py",
    ),
    Mutant(
        "2 central",
        "a receiver decodes with its own threshold",
        "collectives/parcels.py",
        "return sender.decode(payload",
        "return codec.decode(payload",
        "tests/test_laws.py -k sender",
    ),
    Mutant(
        "3 exact wires",
        "a rung takes one spike too many",
        "wires/ladder.py",
        "fired > jnp.asarray(slots[:-1], jnp.int32)",
        "fired > 1 + jnp.asarray(slots[:-1], jnp.int32)",
        "tests/test_ladder.py",
    ),
    Mutant(
        "4 honest payloads",
        "claim one byte less",
        "codecs.py",
        "return jax.eval_shape(self.encode, jax.ShapeDtypeStruct(tuple(shape), jnp.float32)).size",
        "return jax.eval_shape(self.encode, jax.ShapeDtypeStruct(tuple(shape), jnp.float32)).size - 1",
        "tests/test_laws.py -k law_4",
    ),
    Mutant(
        "4 honest payloads",
        "assert_wire forgets f32",
        "traffic/check.py",
        "if t.dtype.startswith(_FLOATS)]",
        'if t.dtype.startswith(_FLOATS) and t.dtype != "float32"]',
        "tests/test_laws.py -k law_7_both",
    ),
    Mutant(
        "5 nothing bad is hidden",
        "every header says finite",
        "codecs.py",
        "header = jnp.where(finite, FINITE, NOT_FINITE)",
        "header = jnp.where(finite, FINITE, FINITE)",
        "tests/test_laws.py -k law_5",
    ),
    Mutant(
        "6 device count",
        "a sum of n devices in the bits of one",
        "collectives/sums.py",
        "sums = range(group * known.start, group * (known.stop - 1) + 1)",
        "sums = range(known.start, known.stop)",
        "tests/test_laws.py -k law_6",
    ),
    Mutant(
        "7 backward is counted",
        "all traffic is called forward",
        "traffic/paths.py",
        """return "backward" if "transpose(" in name_stack else "forward\"""",
        """return "forward" if "transpose(" in name_stack else "forward\"""",
        "tests/test_laws.py -k law_7_both",
    ),
)


def main() -> None:
    wanted = sys.argv[1:]
    table = Table("law", "broken on purpose", "tests that fell", title="Mutations")
    alive = 0
    for mutant in MUTANTS:
        if not wanted or mutant.law.split()[0] in wanted:
            fallen = fell(mutant)
            alive += not fallen
            more = f" and {len(fallen) - 3} more" if len(fallen) > 3 else ""
            table.add_row(mutant.law, mutant.what, "\n".join(fallen[:3]) + more if fallen else "[bold red]none")
    Console(width=150).print(table)
    sys.exit(bool(alive))


def fell(mutant: Mutant) -> list[str]:
    """Names of the tests that fail when the mutant replaces the original."""
    with tempfile.TemporaryDirectory() as folder:
        for name in ("snap_jax", "tests", "conftest.py", "pyproject.toml", "README.md"):
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copy(ROOT / name, Path(folder, name))
        source = Path(folder, "snap_jax", mutant.file)
        text = source.read_text(encoding="utf-8")
        assert text.count(mutant.old) == 1, f"{mutant.file} no longer says {mutant.old!r} once"
        source.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")
        command = [sys.executable, "-m", "pytest", "-q", "--maxfail=4", "-n0", *mutant.tests.split()]
        ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        return re.findall(r"^FAILED (?:tests/)?(.+?)(?: - .*)?$", ran.stdout, flags=re.MULTILINE)


if __name__ == "__main__":
    main()
