"""Rows that are shown whole, by the names of their columns."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from ingest.catalog.sql.driver import Rows, read_time


@dataclass(frozen=True)
class Records:
    """Of one table: its `columns`, separated by commas, and which are `times`, JSON `documents`, or true or false."""

    table: str
    columns: str
    times: frozenset[str] = frozenset()
    documents: frozenset[str] = frozenset()
    flags: frozenset[str] = frozenset()

    def where(self, condition: str) -> str:
        """The statement for the rows of which this is true; what follows it may stand behind it."""
        return f"SELECT {self.columns} FROM {self.table} WHERE {condition}"

    def read(self, rows: Rows) -> list[dict[str, Any]]:
        """Times are aware, and documents are read."""
        names = self.columns.split(", ")
        found = [dict(zip(names, row, strict=True)) for row in rows]
        for kind, read in ((self.times, read_time), (self.documents, json.loads), (self.flags, bool)):
            for record in found:
                record.update({name: read(record[name]) for name in kind if record[name] is not None})
        return found
