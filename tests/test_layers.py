"""The shape of the package: which folder may import which, how long a file may be, and that a name has one meaning.

Everything is read from the source by `ast`; nothing is imported.
"""

import ast
import collections
import dataclasses
import functools
import statistics
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# What each folder may import from the package, besides itself. The order is: wires <- encodings <- codecs <-
# collectives <- boundary <- parallel <- models <- training <- cli.
_GROUND = {"errors", "_compat"}
_CODECS = {*_GROUND, "wires", "encodings", "codecs"}
_MODELS = {*_CODECS, "collectives", "boundary", "parallel", "models"}
MAY_IMPORT = {
    "errors": set(),
    "input_files": {"errors"},
    "_compat": set(),
    "wires": _GROUND,
    "encodings": {*_GROUND, "wires"},
    "codecs": {*_GROUND, "wires", "encodings"},
    "collectives": _CODECS,
    "boundary": {*_CODECS, "collectives"},
    "parallel": {*_CODECS, "collectives", "boundary"},
    "models": _MODELS - {"models"},
    "placement": {*_CODECS, "collectives", "boundary", "parallel", "traffic"},
    "traffic": {*_GROUND, "input_files"},
    "cost": {"errors", "input_files", "traffic"},
    "data": {"errors"},
    "report": {"errors", "cost", "input_files", "traffic"},
    "policy": {*_CODECS, "collectives", "input_files", "traffic", "cost"},
    "training": {*_MODELS, "input_files", "traffic", "cost", "data", "policy"},
    "inference": {*_MODELS, "input_files", "traffic", "data", "training"},
    "cli": {"__version__", "input_files", *_MODELS, "training", "inference", "traffic", "cost", "data", "report"},
    "__main__": {"cli", "errors"},
}

# Libraries that a folder must do without: `cost` and what it reads run where JAX is not installed.
WITHOUT = {
    "snap_jax.cost": {"jax", "jaxlib", "flax", "optax"},
    "snap_jax.traffic.transfer": {"jax", "jaxlib", "flax", "optax", "numpy"},
    "snap_jax.traffic.operations": {"jax", "jaxlib", "flax", "optax", "numpy"},
    "snap_jax.traffic.__init__": {"jax", "jaxlib", "flax", "optax", "numpy"},
    "snap_jax.errors": {"jax", "jaxlib", "flax", "optax", "numpy"},
    "snap_jax.report": {"jax", "jaxlib", "flax", "optax"},
    "snap_jax.wires": {"flax", "optax"},
    "snap_jax.encodings": {"flax", "optax"},
    "snap_jax.codecs": {"flax", "optax"},
    "snap_jax.collectives": {"flax", "optax"},
}

MOST_LINES = 300
MOST_LINES_OF_A_FUNCTION = 60
MEDIAN_LINES_OF_A_FUNCTION = 8
# "base" holds the abstract class of a folder, "cli" the command line of one.
SHARED_FILE_NAMES = {"__init__.py", "base.py", "cli.py"}
# `Block` is what each model's paper calls the unit that it repeats.
SHARED_CLASS_NAMES = {"Block"}


@dataclasses.dataclass(frozen=True)
class Source:
    """One file of the package, parsed."""

    path: Path

    @functools.cached_property
    def name(self) -> str:
        return ".".join(self.path.relative_to(ROOT).with_suffix("").parts)

    @property
    def folder(self) -> str:
        """The folder below `snap_jax`, or the name of a file at the root."""
        return self.name.split(".")[1]

    @functools.cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.path.read_text(encoding="utf-8"))

    @functools.cached_property
    def imports(self) -> set[str]:
        """Full dotted names of all that is imported anywhere in the file, inside functions too."""
        found = set()
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            if isinstance(node, ast.ImportFrom):
                assert not node.level, f"{self.path}: write the full name instead of a relative import"
                found |= {f"{node.module}.{alias.name}" for alias in node.names}
        return found

    def functions(self) -> Iterator[tuple[str, int]]:
        """Name and length in lines of each function."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield node.name, (node.end_lineno or 0) - node.lineno + 1


SOURCES = {one.name: one for one in map(Source, sorted((ROOT / "snap_jax").rglob("*.py")))}


def _modules(names: set[str]) -> set[str]:
    """Return the modules of the package among `names`; a name that a module defines stands for the module."""
    found = set()
    for name in names:
        spellings = (name, f"{name}.__init__", name.rpartition(".")[0], f"{name.rpartition('.')[0]}.__init__")
        found |= set([x for x in spellings if x in SOURCES][:1])
    return found - {"snap_jax.__init__"}  # it loads nothing before a name is used


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
def test_imports_run_one_way(source):
    if source.name == "snap_jax.__init__":
        return
    assert source.folder in MAY_IMPORT, f"{source.path}: add {source.folder!r} to MAY_IMPORT in {__file__}"
    own = {name.split(".")[1] for name in source.imports if name.startswith("snap_jax.")} - {source.folder}
    wrong = sorted(own - MAY_IMPORT[source.folder])
    assert "snap_jax" not in source.imports, f"{source.path}: import from the module that defines a name"
    assert not wrong, (
        f"{source.path} imports {wrong}; {source.folder} may import {sorted(MAY_IMPORT[source.folder])}: "
        "move what both need to the lower folder"
    )
    used = {name.split(".")[0] for name in source.imports}
    for place, without in WITHOUT.items():
        if f"{source.name}.".startswith(f"{place}."):
            assert not used & without, f"{source.path} imports {sorted(used & without)}; {place} does without"


def test_no_module_imports_itself_on_the_way_round():
    left = {name: _modules(source.imports) - {name} for name, source in SOURCES.items()}
    while free := {name for name, needs in left.items() if not needs & left.keys()}:
        left = {name: needs for name, needs in left.items() if name not in free}
    chain = [min(left)] if left else []
    while chain and chain[-1] not in chain[:-1]:
        chain.append(min(left[chain[-1]] & left.keys()))
    assert not left, f"import cycle: {' -> '.join(chain[chain.index(chain[-1]) :])}"


def test_the_root_holds_four_files():
    files = {path.name for path in (ROOT / "snap_jax").iterdir() if path.is_file()}
    assert files == {"__init__.py", "__main__.py", "errors.py", "_compat.py", "py.typed"}


def test_a_file_name_has_one_meaning():
    names = collections.Counter(source.path.name for source in SOURCES.values())
    twice = sorted(name for name, n in names.items() if n > 1 and name not in SHARED_FILE_NAMES)
    assert not twice, f"several files are called {twice}: rename all but one"


def test_a_class_name_has_one_meaning():
    places = collections.defaultdict(list)
    for source in SOURCES.values():
        for node in source.tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(source.name)
    twice = {name: where for name, where in places.items() if len(where) > 1 and name not in SHARED_CLASS_NAMES}
    assert not twice, f"several classes have one name: {twice}: rename all but one"


@pytest.mark.parametrize("folder", ["snap_jax", "experiments", "benchmarks", "tests"])
def test_files_and_functions_are_short(folder):
    for path in sorted((ROOT / folder).rglob("*.py")):
        place = path.relative_to(ROOT).as_posix()
        lines = len(path.read_text(encoding="utf-8").splitlines())
        assert lines <= MOST_LINES, f"{place} has {lines} lines; want at most {MOST_LINES}: divide it by what it does"
        for name, length in Source(path).functions():
            assert length <= MOST_LINES_OF_A_FUNCTION, (
                f"{place}: {name} has {length} lines; want at most {MOST_LINES_OF_A_FUNCTION}: divide it"
            )


def test_the_median_function_is_short():
    lengths = [length for source in SOURCES.values() for _, length in source.functions()]
    assert statistics.median(lengths) <= MEDIAN_LINES_OF_A_FUNCTION
