"""The wheel as a user gets it: built, installed outside the checkout, imported and type-checked from there."""

import json
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

import snap_jax
from tests.support import wheel

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return wheel.build(tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module")
def python(built, tmp_path_factory):
    folder = tmp_path_factory.mktemp("user") / "environment"
    python = wheel.install(built[0], folder, "--no-deps")
    wheel.borrow_packages(folder)
    return python


def test_the_quick_start_and_the_commands_work_outside_the_checkout(python):
    wheel.check(python, python.parents[2])


def test_the_wheel_holds_the_package_with_its_data_and_nothing_else(built):
    names = zipfile.ZipFile(built[0]).namelist()
    files = [path for path in (ROOT / "snap_jax").rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert sorted(name for name in names if ".dist-info/" not in name) == sorted(
        path.relative_to(ROOT).as_posix() for path in files
    )
    assert {"snap_jax/py.typed", "snap_jax/report/style.css"} <= set(names)


def test_the_sdist_holds_what_builds_and_tests_the_package(built):
    with tarfile.open(built[1]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert names >= {"pyproject.toml", "README.md", "LICENSE", "snap_jax/py.typed", "tests/test_wheel.py", "Makefile"}


def test_the_version_stands_in_one_place_and_others_repeat_it(built):
    version = snap_jax.__version__
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert "version" not in project
    assert "version" in project["dynamic"]
    assert f"-{version}-" in built[0].name
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\n## {version}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_oldest_requirements_are_the_lower_bounds():
    lines = wheel.oldest().splitlines()
    assert "jax==0.10" in lines
    assert all(re.fullmatch(r"[\w-]+==[\d.]+", line) for line in lines)
    assert len(lines) == len({line.partition("==")[0] for line in lines})


def typed(python, program):
    """What pyright finds in a program with the packages of an environment."""
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", str(python), str(program)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=program.parent)
    return [
        (found["range"]["start"]["line"] + 1, found["message"])
        for found in json.loads(done.stdout)["generalDiagnostics"]
    ]


def test_types_of_the_public_names_reach_a_users_program(python, tmp_path):
    program = tmp_path / "user_program.py"
    program.write_text((ROOT / "tests/typed/user_program.py").read_text(encoding="utf-8"), encoding="utf-8")
    wrong = program.with_name("wrong.py")
    wrong.write_text("import snap_jax as snap\n\nsnap.Count(limit='three')\n", encoding="utf-8")
    assert typed(python, program) == []
    ((line, message),) = typed(python, wrong)
    assert line == 3
    assert "int" in message
