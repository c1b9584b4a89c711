"""Aligned columns for people."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from ingest.cli.output import say
from ingest.observe.escape import escape_key


def show_table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Prints a header and rows, each on one line; numbers to the right, everything else to the left."""
    texts = [[_text(cell) for cell in row] for row in rows]
    widths = [max(len(line[column]) for line in [list(head), *texts]) for column in range(len(head))]
    right = [all(isinstance(row[column], int) for row in rows) and bool(rows) for column in range(len(head))]
    for line in [list(head), *texts]:
        cells = [
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(line, widths, right, strict=True)
        ]
        say("  ".join(cells).rstrip())


def _text(cell: object) -> str:
    if isinstance(cell, datetime):
        return f"{cell:%Y-%m-%d %H:%M:%S}"
    return "-" if cell is None else escape_key(str(cell))
