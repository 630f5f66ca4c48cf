"""Tables for the terminal, which also print as text."""

import abc
import io
from collections.abc import Iterator, Sequence

from rich import box
from rich.console import Console, ConsoleOptions, RenderableType
from rich.table import Table
from rich.text import Text

from snap_jax.errors import printable


class Printable(abc.ABC):
    """Abstract: what `print` and a rich console show as a table with notes below it."""

    text_width = 110

    @abc.abstractmethod
    def render(self) -> Iterator[RenderableType]:
        """Yield the table, then its notes."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        yield from self.render()

    def __str__(self) -> str:
        console = Console(width=self.text_width, file=io.StringIO())
        with console.capture() as captured:
            console.print(self)
        return captured.get()


def table(title: str, headings: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> Table:
    """Return a table; the first `left` columns are aligned to the left, the first of all may wrap.

    >>> print(table("Sizes", ["name", "bytes"], [["a", "10"]]).row_count)
    1
    """
    made = Table(title=plain(title), box=box.SIMPLE_HEAD)
    for k, heading in enumerate(headings):
        made.add_column(heading, justify="left" if k < left else "right", no_wrap=k > 0, overflow="fold")
    for row in rows:
        made.add_row(*map(plain, row))
    return made


def plain(words: str) -> Text:
    """Return a text that is shown as it is: no markup, and control characters as their escapes."""
    return Text(printable(words))
