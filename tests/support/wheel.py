"""Build the wheel and the sdist, install the wheel outside the checkout, and run there what a user runs first.

`make wheel` installs it with all its requirements into an empty environment. `tests/test_wheel.py` takes those of this
environment, which is quicker.
"""

import argparse
import os
import re
import subprocess
import sys
import sysconfig
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).parents[2]
SMALL = "train,report,cost"  # the extras that do not bring data sets


def build(folder: Path) -> tuple[Path, Path]:
    """Return the wheel and the sdist of this checkout, built in `folder`."""
    _run(sys.executable, "-m", "hatchling", "build", "-d", folder, cwd=ROOT)
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return wheel, sdist


def install(wheel: Path, folder: Path, *options: str) -> Path:
    """Return the Python of a new environment in `folder` that has the wheel; `options` are pip's."""
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    _run(sys.executable, "-m", "pip", "--python", python, "install", "-q", *options, wheel, cwd=folder)
    return python


def borrow_packages(folder: Path) -> None:
    """Let an environment import the packages of this one, but not the checkout that this one has installed."""
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")


def run(python: Path, *command: str, cwd: Path) -> str:
    """Return what a command of an environment prints; the first word is a program of it, such as `python`."""
    return _run(python.parent / command[0], *command[1:], cwd=cwd)


def quick_start() -> tuple[str, str]:
    """Return the first block of the README and what it prints."""
    found = re.search(
        r"```python\n(.*?)```\n\n```text\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.S
    )
    assert found is not None
    return found[1], found[2]


def check(python: Path, folder: Path) -> None:
    """Run the README's quick start and a few commands with an environment, in a folder outside the checkout."""
    code, printed = quick_start()
    assert run(python, "python", "-c", code, cwd=folder) == printed
    where = run(python, "python", "-c", "import snap_jax; print(snap_jax.__file__)", cwd=folder)
    assert Path(where.strip()).is_relative_to(python.parents[1]), where
    assert "train" in run(python, "snap-jax", "--help", cwd=folder)
    assert "UCIe" in run(python, "snap-jax", "cost", "--list", cwd=folder)


def _run(*command: object, cwd: Path) -> str:
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    words = [str(word) for word in command]
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=cwd, env=clean)
    assert done.returncode == 0, f"{words[:4]}: {done.stderr or done.stdout}"
    return done.stdout


def oldest() -> str:
    """Return constraints for pip: the lowest version allowed of each requirement, without those of data sets."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    required = project["dependencies"] + [one for extra in SMALL.split(",") for one in extras[extra]]
    return "\n".join(sorted({re.sub(r">=([\d.]+).*", r"==\1", one) for one in required}))


def main() -> None:
    """Build both into `dist`, and try the wheel in an empty environment."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("environment", type=Path, help="a folder outside the checkout, which must not exist")
    parser.add_argument("--constraint", type=Path, help="versions of the requirements, for pip")
    parser.add_argument("--oldest", action="store_true", help="take the lowest versions that are allowed")
    given = parser.parse_args()
    wheel, sdist = build(ROOT / "dist")
    given.environment.mkdir(parents=True)
    constraints = given.environment / "constraints.txt"
    named = given.constraint.read_text(encoding="utf-8") if given.constraint else ""
    constraints.write_text(oldest() if given.oldest else named, encoding="utf-8")
    extras = SMALL if given.oldest else "all"
    python = install(wheel.with_name(f"{wheel.name}[{extras}]"), given.environment, "--constraint", str(constraints))
    check(python, given.environment)
    print(f"{wheel.name} and {sdist.name} are in dist; the wheel works in an empty environment")


if __name__ == "__main__":
    main()
