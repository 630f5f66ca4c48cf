"""What is installed: the core without extras, and which extra an error names when a library is missing."""

import ast
import importlib
import importlib.metadata
import re
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

import snap_jax
from snap_jax import __main__ as command
from snap_jax.errors import UsageError, requires_extra
from tests.test_layers import ROOT, SOURCES

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
# Distributions that those of the core install: scipy by jax, the rest by flax.
BROUGHT = {"scipy", "orbax-checkpoint", "rich"}
# Only the command line imports these files and those of its folder, and `__main__` says what it needs.
OF_THE_COMMAND_LINE = {"snap_jax.inference.cli", "snap_jax.cost.commands"}
TYRO = {"tyro", "docstring_parser"}  # tyro brings the second


def _names(requirements):
    return {re.split(r"[\[<>=;! ]", one)[0].lower() for one in requirements}


CORE = _names(PROJECT["dependencies"]) | BROUGHT
EXTRAS = {name: _names(one) for name, one in PROJECT["optional-dependencies"].items()}
DISTRIBUTIONS = importlib.metadata.packages_distributions()


def _modules(tree):
    """The first parts of the modules that are imported anywhere below `tree`, outside of `if TYPE_CHECKING`."""
    if isinstance(tree, ast.If) and ast.unparse(tree.test) == "TYPE_CHECKING":
        return set()
    found = {name.name for name in tree.names} if isinstance(tree, ast.Import) else set()
    found |= {tree.module or ""} if isinstance(tree, ast.ImportFrom) else set()
    return {name.partition(".")[0] for name in found}.union(*map(_modules, ast.iter_child_nodes(tree)))


def _distributions(modules):
    of_others = modules - sys.stdlib_module_names - {"snap_jax"}
    return {name.lower() for module in of_others for name in DISTRIBUTIONS.get(module, [module])}


def _needs(source):
    """What a file imports where an extra is named, by extra, and what it imports elsewhere."""
    named, inside = {}, set()
    for node in ast.walk(source.tree):
        call = node.items[0].context_expr if isinstance(node, ast.With) else None
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "requires_extra":
            assert isinstance(call.args[0], ast.Constant)
            modules = _modules(node)
            named.setdefault(call.args[0].value, set()).update(_distributions(modules))
            inside |= modules
    return named, _distributions(_modules(source.tree) - inside)


def test_every_library_is_of_the_core_or_named_with_its_extra():
    for source in SOURCES.values():
        if source.name == "snap_jax.__main__":
            continue
        named, others = _needs(source)
        allowed = CORE | (TYRO if source.folder == "cli" or source.name in OF_THE_COMMAND_LINE else set())
        assert others <= allowed, f"{source.path}: import {others - allowed} inside `with requires_extra(...)`"
        for extra, needed in named.items():
            assert needed <= EXTRAS[extra], f"{source.path}: pyproject.toml, extra {extra}: {needed - EXTRAS[extra]}"


def test_what_the_core_is_said_to_bring_it_brings():
    brought = set().union(*(_names(importlib.metadata.requires(name) or []) for name in ("jax", "flax")))
    assert brought >= BROUGHT


def test_all_is_every_other_extra():
    (everything,) = PROJECT["optional-dependencies"]["all"]
    assert set(re.findall(r"\w+", everything.partition("[")[2])) == EXTRAS.keys() - {"all"}


@pytest.mark.parametrize(
    ("arguments", "user", "extra"),
    [
        (["train", "language"], "snap-jax train", "train"),
        (["cost", "--list"], "snap-jax cost", "cost"),
        ([], "snap-jax", "train"),
    ],
)
def test_the_command_line_says_which_extra_is_missing(monkeypatch, capsys, arguments, user, extra):
    monkeypatch.setitem(sys.modules, "tyro", None)
    for name in [name for name in sys.modules if name.startswith("snap_jax.cli")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr(snap_jax, "cli", raising=False)
    monkeypatch.setattr(sys, "argv", ["snap-jax", *arguments])
    with pytest.raises(SystemExit, match="2"):
        command.main()
    fix = f"pip install 'snap-jax[{extra}]', or in a clone pip install '.[{extra}]'"
    assert capsys.readouterr().err == f"snap-jax: {user} needs the module tyro, which is not installed: {fix}\n"


@pytest.mark.parametrize(
    ("missing", "module", "says"),
    [
        ("tensorboardX", "snap_jax.training.metrics", r"training needs the module tensorboardX.*'snap-jax\[train\]'"),
        ("matplotlib", "snap_jax.cost.plots", r"plots needs the module matplotlib.*'snap-jax\[cost\]'"),
    ],
)
def test_a_module_says_which_extra_it_needs(monkeypatch, missing, module, says):
    for name in [name for name in sys.modules if name.partition(".")[0] == missing]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    monkeypatch.delitem(sys.modules, module, raising=False)
    with pytest.raises(UsageError, match=says):
        importlib.import_module(module)


def test_functions_say_which_extra_they_need(monkeypatch):
    from snap_jax.data.digits import load_digits
    from snap_jax.data.tfds import middle
    from snap_jax.report.rasters import data_uri

    for name in ("sklearn", "PIL"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UsageError, match=r"--data digits needs the module sklearn.*'\.\[data\]'"):
        load_digits()
    with pytest.raises(UsageError, match=r"the report needs the module PIL.*'\.\[report\]'"):
        data_uri(np.zeros((1, 1), np.uint8), [(0, 0, 0, 255)])
    with pytest.raises(UsageError, match=r"needs the module PIL.*'\.\[data\]'"):
        middle(np.zeros((4, 4, 3), np.uint8), 2)


def test_a_missing_file_of_the_package_is_no_missing_extra():
    with pytest.raises(ModuleNotFoundError, match="absent"), requires_extra("train", "training"):
        importlib.import_module("snap_jax.absent")


def test_the_readme_installs_an_extra_that_there_is():
    text = Path(ROOT / "README.md").read_text(encoding="utf-8")
    assert set(re.findall(r"pip install ['\"]\.\[(\w+)\]", text)) <= EXTRAS.keys()
