"""Pages and tables of runs, as tests of the report read them."""

from html.parser import HTMLParser

from snap_jax.report import write_report

VOID = {"meta", "link", "circle", "line", "rect", "polygon", "polyline", "image", "br"}


class Page(HTMLParser):
    """All that a browser would see: attributes, words, cells by line of the table, and tags left open."""

    def __init__(self, html):
        super().__init__()
        self.seen, self.open, self.words, self.lines = [], [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.lines.append([])

    def handle_startendtag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "title"):
            self.words.append(data)
        if "tr" in self.open and self.open[-1] in ("td", "th"):
            self.lines[-1].append(data)


def page(runs, tmp_path):
    write_report(runs, tmp_path / "report.html")
    return Page((tmp_path / "report.html").read_text(encoding="utf-8"))
