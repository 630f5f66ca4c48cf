"""The public vocabulary: fast to import, complete, and the same for Python and for type checkers."""

import ast
import importlib.metadata
import subprocess
import sys
from pathlib import Path

import pytest

import snap_jax

_INIT = Path(snap_jax.__file__)


def _imported(code: str) -> set[str]:
    """Return the names of the modules that are loaded after `code` has run in a new process."""
    script = f"import sys\n{code}\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize("code", ["import snap_jax", "import snap_jax; snap_jax.cost.price"])
def test_the_package_and_the_cost_model_do_not_load_jax(code):
    loaded = _imported(code)
    assert "snap_jax" in loaded
    assert not loaded & {"jax", "flax", "optax", "numpy", "scipy", "matplotlib"}


def test_collectives_load_neither_training_nor_scipys_clustering_nor_the_cost_model():
    loaded = _imported("import snap_jax; snap_jax.psum, snap_jax.Rans, snap_jax.compressed_mean")
    assert "jax" in loaded
    assert not loaded & {"snap_jax.training", "snap_jax.cost", "scipy.cluster", "rich", "tyro", "orbax", "PIL"}


def test_every_public_name_exists_and_is_listed():
    for name in snap_jax.__all__:
        assert getattr(snap_jax, name) is not None
        assert name in dir(snap_jax)


def test_every_public_name_is_in_the_reference():
    pages = [page.read_text(encoding="utf-8") for page in (_INIT.parents[1] / "docs/reference").glob("*.md")]
    described = {line.removeprefix("::: ") for page in pages for line in page.splitlines() if line.startswith(":::")}
    public = {f"snap_jax.{name}" for name in snap_jax.__all__} - {"snap_jax.__version__"}
    public -= {"snap_jax.cost", "snap_jax.training"}  # these have pages of their own
    public |= {f"snap_jax.training.{name}" for name in snap_jax.training.__all__}
    missing = sorted(public - described)
    assert missing == [], f"add `::: {missing[0]}` to a page of docs/reference"


def test_type_checkers_read_the_same_names_from_the_same_places():
    body = ast.parse(_INIT.read_text(encoding="utf-8")).body
    block = next(node for node in body if isinstance(node, ast.If))
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    read = {
        alias.asname: (node.module.removeprefix("snap_jax").lstrip("."), alias.name)
        for node in imports
        for alias in node.names
    }
    loaded = {name: (*source.split(":"), "")[:2] for name, source in snap_jax._SOURCES.items()}
    assert read == {name: (module, one) if one else ("", module) for name, (module, one) in loaded.items()}
    assert list(snap_jax._SOURCES) == sorted(snap_jax._SOURCES)


def test_an_unknown_name_is_refused_with_advice():
    with pytest.raises(AttributeError, match=r"no attribute 'al_gather'; dir\(snap_jax\) lists the public names"):
        snap_jax.al_gather  # noqa: B018


def test_the_version_is_the_one_of_the_package_that_was_built():
    assert importlib.metadata.version("snap-jax") == snap_jax.__version__
    assert _INIT.with_name("py.typed").exists()
