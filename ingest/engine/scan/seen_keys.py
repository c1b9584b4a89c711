"""Which keys a listing showed, on disk instead of in memory: what the catalog has beyond them is gone."""

from __future__ import annotations

from collections.abc import Sequence

from ingest.model import CatalogRow
from ingest.store.scratch import private_database


class SeenKeys:
    """A set of keys."""

    def __init__(self) -> None:
        self._connection = private_database("CREATE TABLE listed (key TEXT PRIMARY KEY) WITHOUT ROWID")

    def add(self, keys: Sequence[str]) -> None:
        self._connection.execute("BEGIN")
        self._connection.executemany("INSERT OR IGNORE INTO listed VALUES (?)", [(key,) for key in keys])
        self._connection.execute("COMMIT")

    def missing(self, rows: Sequence[CatalogRow]) -> list[CatalogRow]:
        """Those of `rows` whose key was not listed."""
        find = "SELECT 1 FROM listed WHERE key = ?"
        return [row for row in rows if self._connection.execute(find, (row.key,)).fetchone() is None]

    def close(self) -> None:
        self._connection.close()
