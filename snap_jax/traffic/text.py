"""Split text outside brackets and quotes, and format a table."""

from collections.abc import Collection, Sequence


def split(text: str, separator: str) -> list[str]:
    """Return the pieces of `text` between the separators that stand outside every bracket and every double quote.

    >>> split("a, f(b, c), {d,e}", ",")
    ['a', ' f(b, c)', ' {d,e}']
    """
    pieces, start = [], 0
    for index in top_level(text, separator):
        pieces.append(text[start:index])
        start = index + 1
    return [*pieces, text[start:]]


def top_level(text: str, wanted: str) -> list[int]:
    """Return where a character of `wanted` stands outside every bracket and every double quote.

    >>> top_level("(a) b (c) d", " ")
    [3, 5, 9]
    """
    found, depth, quoted, escaped = [], 0, False, False
    for index, character in enumerate(text):
        if escaped:
            escaped = False
        elif character == "\\":
            escaped = True
        elif character == '"':
            quoted = not quoted
        elif quoted:
            continue
        elif depth == 0 and character in wanted:
            found.append(index)
        elif character in "([{":
            depth += 1
        elif character in ")]}":
            depth -= 1
    return found


def table(rows: Sequence[Sequence[str]], right: Collection[int] = ()) -> str:
    """Return rows as text with columns two spaces apart; those in `right` are aligned to the right.

    >>> print(table([("name", "n"), ("a", "10")], right=[1]))
    name   n
    a     10
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [c.rjust(w) if i in right else c.ljust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
