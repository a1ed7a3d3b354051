"""Tables for people: aligned columns, colour only on a terminal that wants it."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence


def size(count: int | None) -> str:
    """Bytes for people, in binary units."""
    if count is None:
        return "unknown"
    value, units = float(count), ["B", "KiB", "MiB", "GiB", "TiB"]
    while value >= 1024 and len(units) > 1:
        value /= 1024
        units.pop(0)
    return f"{value:.0f} {units[0]}" if value >= 10 or units[0] == "B" else f"{value:.1f} {units[0]}"


def bold(text: str) -> str:
    """Text in bold, if standard output is a terminal and NO_COLOR is not set (no-color.org)."""
    if os.environ.get("NO_COLOR") or not sys.stdout.isatty():
        return text
    return f"\x1b[1m{text}\x1b[0m"


def print_fields(fields: Sequence[tuple[str, str]]) -> None:
    """Lines of `name   value`."""
    width = max(len(name) for name, _ in fields)
    for name, value in fields:
        print(f"{bold(name.ljust(width))}  {value}".rstrip())


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table; a cell with newlines takes as many lines."""
    cells = [[cell.split("\n") for cell in row] for row in rows]
    widths = [
        max([len(title), *(len(line) for row in cells for line in row[i])]) for i, title in enumerate(head)
    ]
    print("  ".join(bold(title.ljust(width)) for title, width in zip(head, widths)).rstrip())
    for row in cells:
        for index in range(max(map(len, row))):
            parts = [
                (cell[index] if index < len(cell) else "").ljust(width) for cell, width in zip(row, widths)
            ]
            print("  ".join(parts).rstrip())
