"""Tables and instants for people to read."""

from collections.abc import Sequence
from datetime import UTC, datetime


def iso(instant: datetime) -> str:
    """Return an instant in UTC, to the second."""
    return instant.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def table(*rows: Sequence[str]) -> list[str]:
    """Return the lines of a table; the first row is its headings.

    Text that can't be printed is escaped, as it could control a terminal.
    """
    cells = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    ]


def printable(text: str) -> str:
    """Return the text with what can't be printed escaped: others may have set it."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
