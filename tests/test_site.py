"""The site that `make docs` builds: every page is in its navigation, every name of its reference exists.

`tests/test_public_names.py` checks that each public name is in the reference.

These tests read `mkdocs.yml` and the pages. They need none of the packages that build the site.
"""

import pkgutil
import re
from pathlib import Path

import yaml

import snap_jax.cost

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
CONFIG = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
PARTS = ["Tutorials", "How-to guides", "Reference", "Explanation"]
FROM_ROOT = {"CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"}  # docs/site/hooks.py takes them from there


def pages_of(navigation):
    """The files that a part of a navigation names, in order."""
    if isinstance(navigation, str):
        return [navigation]
    parts = navigation.values() if isinstance(navigation, dict) else navigation
    return [page for part in parts for page in pages_of(part)]


def described():
    """The names that the reference describes, in order."""
    text = "\n".join(page.read_text(encoding="utf-8") for page in sorted((DOCS / "reference").glob("*.md")))
    return re.findall(r"^::: ([\w.]+)$", text, flags=re.MULTILINE)


def test_each_page_is_in_the_navigation_once():
    pages = [page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")]
    outside = [name for name in FROM_ROOT if (ROOT / name).exists()]
    assert sorted(pages_of(CONFIG["nav"])) == sorted(pages + outside)


def test_the_navigation_has_four_parts_after_the_index():
    home, *parts = CONFIG["nav"]
    assert home == {"Home": "README.md"}
    assert [name for part in parts for name in part] == PARTS


def test_the_reference_describes_each_name_once():
    names = described()
    assert len(names) == len(set(names))


def test_every_name_of_the_cost_model_is_in_the_reference():
    source = Path(snap_jax.cost.__file__).read_text(encoding="utf-8")
    public = re.findall(r"import \w+ as (\w+)", source)
    assert sorted({f"snap_jax.cost.{name}" for name in public} - set(described())) == []


def test_every_name_in_the_reference_exists():
    for name in described():
        assert pkgutil.resolve_name(name) is not None


def test_nothing_comes_from_another_server():
    assert CONFIG["theme"]["font"] is False
    assert not [path for path in CONFIG["extra_css"] + CONFIG.get("extra_javascript", []) if "://" in path]
