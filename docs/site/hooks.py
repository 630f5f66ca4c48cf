"""What MkDocs does to the pages of this site: formulas become MathML, and pages outside docs/ join it.

MathML is drawn by the browser itself, so the site needs no script for formulas.
"""

import re
from pathlib import Path

from latex2mathml.converter import convert
from mkdocs.structure.files import File

ROOT = Path(__file__).parents[2]
OUTSIDE = ["CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"]
FORMULA = re.compile(r'<(?:span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</(?:span|div)>', flags=re.DOTALL)

PREFIX = re.compile(r"(<mo[^>]*>&#x000(?:2C|28);</mo>)<mo>(?=&#x02212;)")  # the minus in (-1, -2) has no space after it


def on_files(files, config):
    """Add the pages that stand in the root of the repository."""
    for name in OUTSIDE:
        if (ROOT / name).exists():
            files.append(File.generated(config, name, abs_src_path=str(ROOT / name)))
    return files


def on_page_markdown(markdown, page, config, files):
    """Make links between docs/ and the root of the repository those of the site."""
    if page.file.src_uri in OUTSIDE:
        return markdown.replace("](docs/", "](")
    return markdown.replace("](../", "](") if "/" not in page.file.src_uri else markdown


def on_page_content(html, page, config, files):
    """Turn the formulas of a page into MathML."""
    return FORMULA.sub(lambda found: mathml(found[2], "block" if found[1] == "[" else "inline"), html)


def mathml(latex, display):
    """Return a formula as MathML; `&` and `<` are escaped in the page that it comes from."""
    plain = latex.replace("&amp;", "&").replace("&lt;", "<").replace("&gt;", ">")
    return PREFIX.sub(r'\1<mo form="prefix">', convert(plain.strip(), display=display))
