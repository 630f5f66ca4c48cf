"""Pages of docs/ run from top to bottom as a reader would type them, and README and docs use the field's words."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
PROSE = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *PAGES]
BLOCK = re.compile(r"```python\n(.*?)```(?:\n\n```text\n(.*?)```)?", flags=re.DOTALL)
RUNNABLE = [page for page in PAGES if BLOCK.search(page.read_text(encoding="utf-8"))]


def page_name(page):
    """The id of a page in the tests: `codecs`, `reference/codecs`."""
    return f"{page.parent.name}/{page.stem}" if page.parent.name == "reference" else page.stem


# Words that only this project's authors would understand, and what to write instead.
PRIVATE = {
    r"\bways? back\b": "backward pass, gradient communication",
    r"\b(bits?|joules?|bytes?|nats?) an? (element|byte|step|token|spike|channel|image|symbol)\b": "... per ...",
    r"\brivals?\b": "baseline",
    r"\btaps\b": "context tokens",
    r"\bdies?\b": "device, stage, or chip in the cost model",
    r"\bpictures?\b": "image",
    r"\b(silence[ds]?|silent)\b|\bfrozen (channels|boundary|boundaries)\b": "mask, prune",
    r"\bluggage\b|\bparcels?\b": "trailing scales, payload",
    r"\bdealt (out|to)\b|\bput together\b": "scattered, concatenated",
    r"\bloud(est|er|ness)?\b|\bquiet(est|er)?\b(?!:)": "large or small residual norm",
    r"\btaught\b|\bteacher says\b": "distilled, teacher logits",
    r"\bmembranes? of (the )?gradients?\b": "error-feedback residual",
    r"\bcut (once|three times)\b": "one boundary, three boundaries",
    r"\b(nats|times) less\b": "lower loss, reduction factor",
    r"\b(at|the) pace\b": "learning-rate multiplier",
    r"\b(a|the|learned) book\b": "frequency tables",
    r"\b[Ll]aws?\b": "invariant",
    r"\bdims\b": "rank",
    r"\bsegments?\b": "token groups",
    r"\bbehind\b|\bwanted\b": "after, target",
}
ALLOWED = re.compile(r"dies?-to-dies?|Die-to-Die", flags=re.I)


def private_words(text):
    """Every private word of a text but for its `code`, with its line and what to write instead."""
    lines = enumerate(ALLOWED.sub("", re.sub(r"`[^`\n]*`", "", text)).splitlines(), 1)
    found = [(number, re.search(word, line), fix) for number, line in lines for word, fix in PRIVATE.items()]
    return [f"line {number}: {match[0]!r}: write {fix}" for number, match, fix in found if match]


@pytest.mark.parametrize("page", RUNNABLE, ids=page_name)
def test_a_page_prints_what_it_says(page, tmp_path):
    blocks = BLOCK.findall(page.read_text(encoding="utf-8"))
    mark = "--- next block ---"
    code = f"\nprint({mark!r})\n".join(code for code, _ in blocks)
    quick = {**os.environ, "XLA_FLAGS": "--xla_backend_optimization_level=0", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code]  # what a page writes goes into a folder of its own
    ran = subprocess.run(command, capture_output=True, text=True, check=False, env=quick, cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    printed = ["\n".join(line.rstrip() for line in part.strip().splitlines()) for part in ran.stdout.split(mark)]
    assert printed == [expected.strip() for _, expected in blocks]


@pytest.mark.parametrize("page", PROSE, ids=page_name)
def test_a_page_uses_words_that_others_know(page):
    assert private_words(page.read_text(encoding="utf-8")) == []


def test_docstrings_use_words_that_others_know():
    found = [
        f"{path.relative_to(ROOT)}: {name}: {word}"
        for path in sorted((ROOT / "snap_jax").rglob("*.py"))
        for name, text in docstrings(path)
        for word in private_words(text)
    ]
    assert found == []


def docstrings(path):
    """Name and docstring of a module and of everything defined in it."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = [node for node in ast.walk(tree) if isinstance(node, kinds)]
    return [(getattr(node, "name", "module"), text) for node in nodes if (text := ast.get_docstring(node))]


@pytest.mark.parametrize("page", PROSE, ids=page_name)
def test_links_of_a_page_lead_somewhere(page):
    targets = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    local = [target for target in targets if "://" not in target]
    assert [target for target in local if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("page", PROSE, ids=page_name)
def test_files_and_commands_named_on_a_page_exist(page):
    text = page.read_text(encoding="utf-8")
    files = re.findall(r"`((?:\w+/)+\w+\.py)`", text)
    files += [
        name.replace(".", "/") + ".py" for name in re.findall(r"python -m ((?:experiments|benchmarks)(?:\.\w+)+)", text)
    ]
    assert [file for file in files if not any((root / file).exists() for root in (ROOT, ROOT / "snap_jax"))] == []


def test_every_page_is_listed_in_the_index():
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    pages = [page.relative_to(ROOT / "docs").as_posix() for page in PAGES if page.parent == ROOT / "docs"]
    assert [page for page in pages if page != "README.md" and f"({page})" not in index] == []
    assert "(reference/README.md)" in index


@pytest.mark.parametrize(
    "sentence", ["Gradients on the way back", "0.5 bits an element", "the best rival", "four dies", "law 2 holds"]
)
def test_private_words_are_found(sentence):
    assert len(private_words(sentence)) == 1


def test_words_of_the_field_are_not_private_words():
    assert private_words("Die-to-die links take 0.5 bits per element; the baseline is trained on images.") == []
